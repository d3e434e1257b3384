"""The servers a stack brings along: MongoDB, NATS and the local model, and the ports they listen on."""
