package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Contender is one library in one configuration.
type Contender struct {
	Library string // as the charts name it
	Setup   string // what tells it from the library's other contenders, such as "majority 2"
	Module  string // its path in go.mod
	// Note says how it is configured, and why that is its best.
	Note string
	// Extends tells that locks stay held without the caller's doing.
	Extends bool
	// AllServers tells that it uses all servers of a site and not the first only.
	AllServers bool
	// Open makes one locker: what one process would have, with a client and connections of its own.
	Open func(at site) (Locker, error)
}

// Locker is what is measured. It is safe for concurrent use.
type Locker interface {
	// Lock waits for the lock until ctx ends.
	Lock(ctx context.Context, name string) (unlock func(), err error)
	// TryLock does not wait. It returns errHeld if another has the lock.
	TryLock(ctx context.Context, name string) (unlock func(), err error)
	Close()
}

// errHeld is what TryLock returns when it has found out that another has the lock, as opposed to not having found out.
var errHeld = errors.New("held by another")

// String is the contender's name in tables.
func (c Contender) String() string {
	if c.Setup == "" {
		return c.Library
	}
	return c.Library + ", " + c.Setup
}

// Version is that of the module which was built in.
func (c Contender) Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	for _, m := range info.Deps {
		if m.Path != c.Module {
			continue
		}
		if m.Replace != nil {
			return "this tree"
		}
		return m.Version
	}
	return "?"
}

var background = context.Background()

// majority is the setup of those that take a majority of 2n-1 keys.
func majority(n int32) string { return fmt.Sprintf("majority %d", n) }
