"""An eager module in hand: calls, examples, facts, operations, structure."""
