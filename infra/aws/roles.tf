# Two roles with no more than their jobs need. Neither may change a bucket's settings, nor delete an old version.
#
# labeling  reads the music and the models, writes the labels
# training  reads the music, writes features, checkpoints, trials and models

data "aws_iam_policy_document" "trusted" {
  # Machines of `ray up`.
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }

  # Pods, by EKS Pod Identity.
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "labeling" {
  statement {
    sid       = "ListMusicAndLabels"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["catalog"].arn, aws_s3_bucket.this["labels"].arn]
  }

  statement {
    sid       = "ReadMusic"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["catalog"].arn}/*"]
  }

  statement {
    sid       = "ListModels"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["training"].arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["models/*"]
    }
  }

  statement {
    sid       = "ReadModels"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["training"].arn}/models/*"]
  }

  # Deleting: staged rows of a night that is over, and `mgc labels vacuum`. Old versions stay.
  statement {
    sid       = "WriteLabels"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this["labels"].arn}/*"]
  }
}

data "aws_iam_policy_document" "training" {
  statement {
    sid       = "ListMusicAndTraining"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.this["catalog"].arn, aws_s3_bucket.this["training"].arn]
  }

  statement {
    sid       = "ReadMusic"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.this["catalog"].arn}/*"]
  }

  statement {
    sid       = "WriteTraining"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this["training"].arn}/*"]
  }
}

locals {
  policies = {
    labeling = data.aws_iam_policy_document.labeling.json
    training = data.aws_iam_policy_document.training.json
  }
}

resource "aws_iam_role" "this" {
  for_each = local.policies

  name               = "${var.prefix}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trusted.json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = "buckets"
  role   = aws_iam_role.this[each.key].id
  policy = each.value
}

resource "aws_iam_instance_profile" "this" {
  for_each = local.policies

  name = "${var.prefix}-${each.key}"
  role = aws_iam_role.this[each.key].name
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = var.eks_cluster == "" ? {} : local.policies

  cluster_name    = var.eks_cluster
  namespace       = var.namespace
  service_account = "mgc-${each.key}"
  role_arn        = aws_iam_role.this[each.key].arn
}

# The head of a `ray up` cluster is a training machine that also starts and ends the others.
data "aws_iam_policy_document" "autoscaling" {
  statement {
    sid = "Look"
    actions = [
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeImages",
      "ec2:DescribeSubnets",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeKeyPairs",
      "ec2:DescribeInstanceStatus",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Start"
    actions   = ["ec2:RunInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid       = "Name"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:aws:ec2:${var.region}:*:instance/*"]
  }

  # Only machines of its own cluster.
  statement {
    sid       = "End"
    actions   = ["ec2:TerminateInstances", "ec2:StopInstances"]
    resources = ["arn:aws:ec2:${var.region}:*:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/ray-cluster-name"
      values   = ["mgc"]
    }
  }

  statement {
    sid       = "GiveWorkersTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.this["training"].arn]
  }
}

resource "aws_iam_role" "head" {
  name               = "${var.prefix}-head"
  assume_role_policy = data.aws_iam_policy_document.trusted.json
}

resource "aws_iam_role_policy" "head_buckets" {
  name   = "buckets"
  role   = aws_iam_role.head.id
  policy = data.aws_iam_policy_document.training.json
}

resource "aws_iam_role_policy" "head_autoscaling" {
  name   = "autoscaling"
  role   = aws_iam_role.head.id
  policy = data.aws_iam_policy_document.autoscaling.json
}

resource "aws_iam_instance_profile" "head" {
  name = "${var.prefix}-head"
  role = aws_iam_role.head.name
}
