package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// everybody is all libraries.
func everybody() []Contender {
	return []Contender{oursWith(1), valkeylocks(), rueidislocks(), redislocks(), redsyncs(), etcds()}
}

// extras are contenders that have no column of their own. Tests add some.
var extras = []Contender{oursWith(2), oursWith(3), valkeylocksAsking()}

// find gives the contender of that name.
func find(library string) (Contender, error) {
	for _, c := range append(everybody(), extras...) {
		if c.Library == library {
			return c, nil
		}
	}
	return Contender{}, fmt.Errorf("there is no library %q", library)
}

// supports tells whether the library has a lock for servers that stand so to each other.
func (c Contender) supports(kind Kind) bool {
	switch c.Library {
	case etcdLibrary:
		return kind == Etcd
	case oursLibrary, "redsync":
		return kind != Etcd
	default: // one deployment
		return kind == Single || kind == Sentinel || kind == Cluster
	}
}

// Version is that of the module which was built in.
func (c Contender) Version() string { return versionOf(c.Module) }

func versionOf(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			return "this tree"
		}
		return m.Version
	}
	return "?"
}

// under makes an Own that claims all keys with a prefix.
func under(prefix string) func(key string) bool {
	return func(key string) bool { return strings.HasPrefix(key, prefix) }
}

// releasing is how long a Release waits for the servers.
const releasing = 3 * time.Second

var (
	errUnreleased = errors.New("the servers have not confirmed the release")
	errClosed     = errors.New("the locker is closed")
)
