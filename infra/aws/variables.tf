variable "region" {
  description = "Where the buckets lie."
  type        = string
  default     = "eu-central-1"
}

variable "prefix" {
  description = "Begins the names of buckets and roles; names of buckets are unique in the whole world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,20}$", var.prefix))
    error_message = "prefix: 2 to 21 small letters, digits and hyphens, the first no hyphen."
  }
}

variable "eks_cluster" {
  description = "Name of the EKS cluster with KubeRay whose service accounts get the roles; empty for none."
  type        = string
  default     = ""
}

variable "namespace" {
  description = "Kubernetes namespace of the service accounts mgc-labeling and mgc-training."
  type        = string
  default     = "default"
}

variable "staged_days" {
  description = "Days after which what a night staged is deleted; a killed night can go on for so long."
  type        = number
  default     = 14
}

variable "kept_days" {
  description = "Days for which overwritten and deleted objects can be brought back."
  type        = number
  default     = 30
}
