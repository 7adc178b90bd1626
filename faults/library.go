package main

// Names of libraries that faults tell apart.
const (
	oursLibrary       = "ctxlock"
	valkeylockLibrary = "valkeylock"
	etcdLibrary       = "etcd"
)
