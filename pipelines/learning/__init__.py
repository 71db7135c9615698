"""The whole way from tagged files to labels for the untagged, through jobs of other rooms."""
