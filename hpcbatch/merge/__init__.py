"""What runs in the dependent job: turn the segments of all attempts into the one output, or say what is missing."""
