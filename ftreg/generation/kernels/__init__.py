"""What generates faster than transformers by itself, with the same tokens in fp32."""
