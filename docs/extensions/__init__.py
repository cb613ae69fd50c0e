"""Extensions of the documentation's builder."""
