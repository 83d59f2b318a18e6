"""How bytes reach Gemini, and come back."""
