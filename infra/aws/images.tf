# Where the images lie. A tag is never given to another image.
resource "aws_ecr_repository" "mgc" {
  name                 = "mgc"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

# Every machine of `ray up` fetches the image by itself.
data "aws_iam_policy_document" "images" {
  statement {
    sid       = "LogIn"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "FetchImages"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [aws_ecr_repository.mgc.arn]
  }
}

resource "aws_iam_role_policy" "head_images" {
  name   = "images"
  role   = aws_iam_role.head.id
  policy = data.aws_iam_policy_document.images.json
}

resource "aws_iam_role_policy" "training_images" {
  name   = "images"
  role   = aws_iam_role.this["training"].id
  policy = data.aws_iam_policy_document.images.json
}
