package main

// Names of libraries that faults tell apart.
const (
	oursLibrary       = "ctxlock"
	oursTwiceLibrary  = "ctxlock, majority 2"
	oursThriceLibrary = "ctxlock, majority 3"
	valkeylockLibrary = "valkeylock"
	// askingLibrary is valkeylock whose waiters ask again now and then.
	askingLibrary = "valkeylock, asking again"
	etcdLibrary   = "etcd"
)
