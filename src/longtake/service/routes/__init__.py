"""HTTP only: what is asked and answered. What happens stands one folder up."""
