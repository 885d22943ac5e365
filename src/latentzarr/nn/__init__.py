"""The networks as torch sees them; nothing that only reads data imports this."""
