//! What people and tools read, for one world with most things in it.
