"""What a network is: shapes, attention, experts, rotary tables. No tensors and no torch."""
