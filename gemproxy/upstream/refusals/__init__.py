"""What Google's refusals mean."""
