"""What the product's templates may use."""
