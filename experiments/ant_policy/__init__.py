"""How the walking ant of `common.generators.ant` was trained."""
