"""One request to one Motion: session, windows, sampling, fitting to a head."""
