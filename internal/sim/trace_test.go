package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// trace remembers what happened last.
type trace struct {
	start time.Time

	mu sync.Mutex
	// Below mu.
	entries [20000]entry
	count   int
}

// entry is one thing that happened. It is put into words only if somebody wants to read it.
type entry struct {
	at     time.Duration
	who    string
	name   string // empty if it is about all
	format string
	args   [5]any
}

func (t *trace) add(who, name, format string, args ...any) {
	e := entry{at: time.Since(t.start), who: who, name: name, format: format}
	n := copy(e.args[:], args)
	if n < len(args) {
		panic("too many arguments for the trace")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[t.count%len(t.entries)] = e
	t.count++
}

// last puts the last entries about a name into words, most of them at most. An empty name means all.
func (t *trace) last(most int, name string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for i := t.count - 1; i >= 0 && i >= t.count-len(t.entries) && len(lines) < most; i-- {
		e := &t.entries[i%len(t.entries)]
		if name == "" || e.name == "" || e.name == name {
			lines = append(lines, e.String())
		}
	}
	var text strings.Builder
	for i := len(lines) - 1; i >= 0; i-- {
		text.WriteString(lines[i])
		text.WriteByte('\n')
	}
	return text.String()
}

func (e *entry) String() string {
	said := fmt.Sprintf(e.format, e.args[:strings.Count(e.format, "%")]...)
	return fmt.Sprintf("%12.6fs  %-8s %-6s %s", e.at.Seconds(), e.who, e.name, said)
}

// recorder writes into the trace what a store carries out, as the server sees it.
type recorder struct {
	store.Store
	who   string
	trace *trace
}

func (r recorder) Claim(ctx context.Context, ops []store.Op) {
	r.Store.Claim(ctx, ops)
	r.record("claim", ops)
}

func (r recorder) Extend(ctx context.Context, ops []store.Op) {
	r.Store.Extend(ctx, ops)
	r.record("extend", ops)
}

func (r recorder) Release(ctx context.Context, ops []store.Op) {
	r.Store.Release(ctx, ops)
	r.record("release", ops)
}

func (r recorder) Read(ctx context.Context, ops []store.Op) {
	r.Store.Read(ctx, ops)
	r.record("read", ops)
}

func (r recorder) Look(ctx context.Context, ops []store.Op) {
	r.Store.Look(ctx, ops)
	r.record("look", ops)
}

func (r recorder) record(what string, ops []store.Op) {
	for i := range ops {
		op := &ops[i]
		name := op.Key[strings.LastIndexByte(op.Key, ':')+1:]
		switch {
		case op.Err != nil:
			r.trace.add(r.who, name, "  "+what+" %s as %s: %v", op.Key, short(op.Owner), op.Err)
		case op.Token != 0:
			r.trace.add(r.who, name, "  "+what+" %s as %s: token %d, TTL %v", op.Key, short(op.Owner), op.Token, op.TTL)
		default:
			r.trace.add(r.who, name, "  "+what+" %s as %s: holder %s, TTL %v", op.Key, short(op.Owner), short(op.Holder), op.TTL)
		}
	}
}

// short shortens an owner value to what tells it from others.
type short string

func (s short) String() string {
	if s == "" {
		return "nobody"
	}
	owner, _, _ := strings.Cut(string(s), "\n") // what follows is metadata
	parts := strings.Split(owner, "/")
	if len(parts) != 3 {
		return fmt.Sprintf("%q", string(s))
	}
	return parts[1][:min(4, len(parts[1]))] + "/" + parts[2]
}
