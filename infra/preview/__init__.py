"""What a `pulumi preview` says, as counts and changed properties, for people and for pull requests."""
