"""The vendors' double of the local stack: their endpoints, their semantics, nothing that they don't have."""
