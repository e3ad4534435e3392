"""Who conducts: sees every craft, has none."""
