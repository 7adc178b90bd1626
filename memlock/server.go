package memlock

import (
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// ServerOption is what a Server can be told. The zero value is the default.
type ServerOption struct {
	// Lanes is over how many lanes the keys are spread, as a cluster spreads them over its nodes. Default: 1.
	Lanes int
	// Latency is how long a request takes, there and back; an event takes half as long. Default: 0.
	Latency time.Duration
	// Echoes makes lockers hear of the changes that they made themselves, as Valkey does without NOLOOP. Default: false.
	Echoes bool
}

// Server has the keys. Its zero value is ready for use, and its methods are safe for use by many goroutines at once.
//
// It behaves as Valkey does where lockers can tell: a key that ran out is gone for everybody at that instant, but those who
// watch it are told late, when somebody touches the key or a sweep comes by; and a watch is good for one event.
type Server struct {
	option ServerOption

	mu sync.Mutex
	// Below mu.
	keys map[string]entry
	// lists are those of waiters, beside their keys, which say when they end.
	lists map[string][]enlisted
	// queues are those who stand in them, in order, beside the queues' keys.
	queues map[string][]standing
	// watches says whom to tell of a key's next change, in the order in which they asked. In order, and not a
	// map, so that a test runs the same way twice.
	watches     map[string][]*connection
	connections []*connection
	swept       time.Time
}

// entry is a key's value and when it runs out; never, if that is zero.
type entry struct {
	value   string
	expires time.Time
}

// sweepInterval is how often keys that nobody touches are checked: about as often as Valkey does it. There is
// no goroutine for it, so it waits for the first request after that.
const sweepInterval = 100 * time.Millisecond

// NewServer returns a server. NewServer(ServerOption{}) is the same as new(Server).
func NewServer(option ServerOption) *Server {
	return &Server{option: option}
}

// Store returns a new connection, with watches of its own.
func (s *Server) Store() store.Store {
	c := &connection{server: s, closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections = append(s.connections, c)
	return c
}

// Set gives key a value, whoever has it, and lets it run out after validity; never, if that is 0.
func (s *Server) Set(key, value string, validity time.Duration) {
	if validity == 0 {
		validity = store.Forever
	}
	s.atomically(nil, func(st *step) { st.set(key, value, validity) })
}

// Get returns the value of key, and whether there is such a key.
func (s *Server) Get(key string) (value string, found bool) {
	s.atomically(nil, func(st *step) {
		var e entry
		e, found = st.get(key)
		value = e.value
	})
	return value, found
}

// TTL returns how long key has left to live: 0 if there is no such key, store.Forever if it does not run out.
func (s *Server) TTL(key string) (left time.Duration) {
	s.atomically(nil, func(st *step) {
		if e, found := st.get(key); found {
			left = st.left(e)
		}
	})
	return left
}

// Keys returns all keys, in order.
func (s *Server) Keys() (keys []string) {
	s.atomically(nil, func(st *step) {
		st.sweep()
		for key := range s.keys {
			keys = append(keys, key)
		}
	})
	slices.Sort(keys)
	return keys
}

// Delete deletes key, whoever has it, and tells whether it was there.
func (s *Server) Delete(key string) (found bool) {
	s.atomically(nil, func(st *step) {
		if _, found = st.get(key); found {
			st.remove(key)
		}
	})
	return found
}

// Flush deletes every key at once, as FLUSHALL does: all connections are told, though not of which keys.
func (s *Server) Flush() {
	s.atomically(nil, func(st *step) {
		clear(s.keys)
		clear(s.watches)
		for _, c := range s.connections {
			st.owed = append(st.owed, notice{c, store.Event{All: true}})
		}
	})
}

// lane spreads keys evenly, and the same way in every run (FNV-1a), so that a failure can be repeated.
func (s *Server) lane(key string) int {
	hash := uint32(2166136261)
	for i := range len(key) {
		hash = (hash ^ uint32(key[i])) * 16777619
	}
	return int(hash % uint32(max(s.option.Lanes, 1)))
}

// atomically runs f as a server runs a command: alone and at one instant. Events that came of it are sent when the lock is
// free again, since whoever hears them may turn to the server at once.
func (s *Server) atomically(by *connection, f func(*step)) {
	st := step{server: s, by: by}
	st.run(f)
	for _, n := range st.owed {
		n.to.tell(n.event)
	}
}

// step is one request while the server carries it out.
type step struct {
	server *Server
	// by is who asked; nil for the methods of Server, which act as a stranger with a command line would.
	by   *connection
	now  time.Time
	owed []notice
}

// notice is an event that somebody is owed.
type notice struct {
	to    *connection
	event store.Event
}

func (st *step) run(f func(*step)) {
	s := st.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[string]entry)
		s.lists = make(map[string][]enlisted)
		s.queues = make(map[string][]standing)
		s.watches = make(map[string][]*connection)
	}
	st.now = time.Now()
	if st.now.Sub(s.swept) >= sweepInterval {
		st.sweep()
	}
	f(st)
}

// get finds a key, and finds out that it has run out.
func (st *step) get(key string) (entry, bool) {
	e, found := st.server.keys[key]
	if found && st.expired(e) {
		st.expire(key)
		return entry{}, false
	}
	return e, found
}

func (st *step) set(key, value string, validity time.Duration) entry {
	e := entry{value: value}
	if validity != store.Forever {
		e.expires = st.now.Add(validity)
	}
	st.server.keys[key] = e
	st.changed(key, st.by)
	return e
}

func (st *step) remove(key string) {
	delete(st.server.keys, key)
	st.changed(key, st.by)
}

// expire removes a key whose time is over. Nobody did that, so everybody is told, whoever happened to notice.
func (st *step) expire(key string) {
	delete(st.server.keys, key)
	st.changed(key, nil)
}

func (st *step) expired(e entry) bool {
	return !e.expires.IsZero() && !st.now.Before(e.expires)
}

func (st *step) left(e entry) time.Duration {
	if e.expires.IsZero() {
		return store.Forever
	}
	return e.expires.Sub(st.now)
}

func (st *step) sweep() {
	st.server.swept = st.now
	var expired []string
	for key, e := range st.server.keys {
		if st.expired(e) {
			expired = append(expired, key)
		}
	}
	slices.Sort(expired)
	for _, key := range expired {
		st.expire(key)
	}
}

// watch has the asker told of the next change to key.
func (st *step) watch(key string) {
	if st.by == nil || st.by.gone || slices.Contains(st.server.watches[key], st.by) {
		return
	}
	st.server.watches[key] = append(st.server.watches[key], st.by)
}

// changed uses up the watches on key. Without echoes the one who made the change is not told, but his watch is used up all
// the same, as it is with Valkey: it takes another look to have one again.
func (st *step) changed(key string, by *connection) {
	for _, c := range st.server.watches[key] {
		if c != by || st.server.option.Echoes {
			st.owed = append(st.owed, notice{c, store.Event{Key: key}})
		}
	}
	delete(st.server.watches, key)
}

// disconnect forgets a connection and what it watches.
func (s *Server) disconnect(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gone, c.subscriber = true, nil
	is := func(other *connection) bool { return other == c }
	s.connections = slices.DeleteFunc(s.connections, is)
	for key, watchers := range s.watches {
		if watchers = slices.DeleteFunc(watchers, is); len(watchers) == 0 {
			delete(s.watches, key)
		} else {
			s.watches[key] = watchers
		}
	}
}
