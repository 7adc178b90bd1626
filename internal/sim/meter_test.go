package sim

import (
	"context"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// meter counts what a process asks for, whatever becomes of it, and finds out whether it keeps the server busy for nothing.
type meter struct {
	store.Store
	checker *checker
	most    int // so many keys within a second

	mu sync.Mutex
	// Below mu.
	second time.Time // when the present second began
	asked  int       // about so many keys since
	over   bool      // that was once too many
}

func (m *meter) Claim(ctx context.Context, ops []store.Op) {
	m.count(len(ops))
	m.Store.Claim(ctx, ops)
}
func (m *meter) Extend(ctx context.Context, ops []store.Op) {
	m.count(len(ops))
	m.Store.Extend(ctx, ops)
}
func (m *meter) Release(ctx context.Context, ops []store.Op) {
	m.count(len(ops))
	m.Store.Release(ctx, ops)
}
func (m *meter) Read(ctx context.Context, ops []store.Op) { m.count(len(ops)); m.Store.Read(ctx, ops) }
func (m *meter) Look(ctx context.Context, ops []store.Op) { m.count(len(ops)); m.Store.Look(ctx, ops) }

// count blames a process that asks too much, and slows it down from then on: where requests take no time, it could go on for ever
// without any passing, and the history would not end.
func (m *meter) count(keys int) {
	m.mu.Lock()
	if now := time.Now(); now.Sub(m.second) >= time.Second {
		m.second, m.asked = now, 0
	}
	m.asked += keys
	first := m.asked > m.most && !m.over
	m.over = m.over || first
	over := m.over
	m.mu.Unlock()
	if first {
		m.checker.blame("", "a stampede: one process asks for more than %d keys within a second", m.most)
	}
	if over {
		time.Sleep(time.Second)
	}
}
