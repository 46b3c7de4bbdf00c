"""A finished stage on the Hub: what is uploaded, how, and by whom it is asked for."""
