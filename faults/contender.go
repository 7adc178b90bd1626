package main

import (
	"context"
	"time"
)

// Contender is one library in its recommended configuration.
type Contender struct {
	Library string
	Module  string // its path in go.mod
	// Note says how it is configured.
	Note string
	// Fences tells that its holdings have fencing tokens.
	Fences bool
	// Open makes one locker: what one process would have.
	Open func(at Place) (Locker, error)
	// Own tells whether a key is one that must be gone once everybody has left.
	Own func(key string) bool
}

// Place is where a client finds its servers. It is handed to another process.
type Place struct {
	Kind     Kind
	Servers  []string // addresses: of the one server, of the sentinels, of the cluster's nodes, of the independent nodes, of etcd
	Primary  string   // the name by which sentinels know it
	Validity time.Duration
}

// Kind is how the servers stand to each other.
type Kind string

const (
	Single   Kind = "single"
	Sentinel Kind = "sentinel"
	Cluster  Kind = "cluster"
	Nodes    Kind = "nodes" // independent of each other
	Etcd     Kind = "etcd"
)

// Locker is what one process has. It is safe for concurrent use.
type Locker interface {
	// Lock waits for the lock until ctx ends. The lock belongs to ctx as far as the library has it so.
	Lock(ctx context.Context, name string) (Holding, error)
	// Close ends it.
	Close()
}

// Holding is a lock that was taken.
type Holding interface {
	// Alive tells whether its holder may still believe in it, as the library says.
	Alive() bool
	// Cause is why not; nil if the library does not say.
	Cause() error
	// Token is its fencing token, 0 if the library has none.
	Token() int64
	// Release gives it back.
	Release() error
}
