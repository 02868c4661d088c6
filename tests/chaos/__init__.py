"""Real workers under a steady load, while things break at random; then the books must balance."""
