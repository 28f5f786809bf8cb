"""The parts of an evaluation: each turns texts into one or several figures."""
