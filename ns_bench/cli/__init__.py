"""What commands share: their options, and what a terminal shows."""
