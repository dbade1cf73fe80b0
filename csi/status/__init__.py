"""What people are told of the records: phases, conditions, figures, events. Nothing is ever read from it."""
