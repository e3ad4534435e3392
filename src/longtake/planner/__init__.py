"""From a wish and a machine to a Plan: pure arithmetic, no GPU and no torch."""
