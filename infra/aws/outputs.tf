output "buckets" {
  description = "Names of the buckets, by what they hold."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "roles" {
  description = "ARNs of the roles, by job."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "instance_profiles" {
  description = "ARNs for infra/aws/ray-cluster.yaml."
  value = merge(
    { for name, profile in aws_iam_instance_profile.this : name => profile.arn },
    { head = aws_iam_instance_profile.head.arn },
  )
}

output "registry" {
  description = "REGISTRY in infra/README.md and infra/aws/ray-cluster.yaml: the image is REGISTRY/mgc."
  value       = split("/", aws_ecr_repository.mgc.repository_url)[0]
}
