"""Who may ask the gateway for what, and as which upstream request it goes on."""
