package ctxlock

import "sync"

// floors remembers the greatest fencing token that was seen of each name, for the next to be greater, also if a server has lost its counter
// and its clock was set back. One number for all names would have a single bad counter spoil them all. It remembers a number of names, and forgets
// any of them beyond that: the servers' counters are what counts.
type floors struct {
	mu     sync.Mutex
	tokens map[string]int64
}

const mostFloors = 4096

func (f *floors) of(name string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tokens[name]
}

func (f *floors) raise(name string, token int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, known := f.tokens[name]
	switch {
	case token <= last:
		return
	case f.tokens == nil:
		f.tokens = make(map[string]int64)
	case !known && len(f.tokens) >= mostFloors:
		for other := range f.tokens {
			delete(f.tokens, other)
			break
		}
	}
	f.tokens[name] = token
}
