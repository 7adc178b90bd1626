package faulty_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

const (
	validity = time.Minute
	patience = 10 * time.Second
	delay    = 5 * time.Second
)

// claimed is what a claim on a faulty store came to.
type claimed struct {
	op   store.Op
	took time.Duration
	// early and late tell whether the key was there when the claim returned, and a while later.
	early, late bool
}

func claim(t *testing.T, config faulty.Config, before ...func(*faulty.Store)) claimed {
	t.Helper()
	var server memlock.Server
	config.MaxDelay = delay
	s := faulty.New(server.Store(), config)
	defer s.Close()
	s.Subscribe(func(store.Event) {})
	for _, f := range before {
		f(s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	start := time.Now()
	ops := []store.Op{{Key: "key", Owner: "me", Validity: validity}}
	s.Claim(ctx, ops)
	c := claimed{op: ops[0], took: time.Since(start)}
	_, c.early = server.Get("key")
	time.Sleep(patience)
	_, c.late = server.Get("key")
	return c
}

func TestRequests(t *testing.T) {
	stalled := func(s *faulty.Store) { s.Stall(true) }
	resumed := func(s *faulty.Store) {
		s.Stall(true)
		time.AfterFunc(time.Second, func() { s.Stall(false) })
	}
	crashed := func(s *faulty.Store) { s.Crash() }
	healed := func(s *faulty.Store) { s.Heal() }
	for _, test := range []struct {
		name        string
		config      faulty.Config
		before      func(*faulty.Store)
		err         error
		unknown     bool
		early, late bool
		waits       bool
	}{
		{name: "no faults", early: true, late: true},
		{name: "refused", config: faulty.Config{Refuse: 1}, err: faulty.ErrRefused},
		{name: "request lost", config: faulty.Config{LoseRequest: 1}, err: context.DeadlineExceeded, unknown: true, waits: true},
		{name: "cut before", config: faulty.Config{CutRequest: 1}, err: faulty.ErrCut, unknown: true},
		{name: "reply lost", config: faulty.Config{LoseReply: 1}, err: context.DeadlineExceeded, unknown: true, early: true, late: true, waits: true},
		{name: "cut after", config: faulty.Config{CutReply: 1}, err: faulty.ErrCut, unknown: true, early: true, late: true},
		{name: "request delayed", config: faulty.Config{DelayRequest: 1}, early: true, late: true, waits: true},
		{name: "reply delayed", config: faulty.Config{DelayReply: 1}, early: true, late: true, waits: true},
		{name: "link cut for ever", before: crashed, err: context.DeadlineExceeded, unknown: true, waits: true},
		{name: "link stalled", before: stalled, err: context.DeadlineExceeded, unknown: true, waits: true},
		{name: "link stalled for a while", before: resumed, early: true, late: true, waits: true},
		{name: "healed", config: faulty.Config{Refuse: 1}, before: healed, early: true, late: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var before []func(*faulty.Store)
				if test.before != nil {
					before = append(before, test.before)
				}
				c := claim(t, test.config, before...)
				if !errors.Is(c.op.Err, test.err) || c.op.Unknown != test.unknown {
					t.Errorf("error %v, unknown %v; want %v, %v", c.op.Err, c.op.Unknown, test.err, test.unknown)
				}
				if c.early != test.early || c.late != test.late {
					t.Errorf("carried out: %v, later %v; want %v, %v", c.early, c.late, test.early, test.late)
				}
				if waited := c.took > 0; waited != test.waits {
					t.Errorf("took %v", c.took)
				}
				if test.err == nil && c.op.Holder != "me" {
					t.Errorf("holder %q", c.op.Holder)
				}
			})
		})
	}
}

// A delayed request is carried out even if its sender has given up, and a doubled one after its sender has gone on.
func TestStaleRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		s := faulty.New(server.Store(), faulty.Config{Double: 1, MaxDelay: delay})
		defer s.Close()
		ops := []store.Op{{Key: "key", Owner: "me", Validity: validity}}
		s.Claim(t.Context(), ops)
		server.Delete("key")
		time.Sleep(2 * delay)
		if _, found := server.Get("key"); !found {
			t.Error("the claim was not carried out a second time")
		}

		server.Delete("key")
		s.Stall(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Claim(ctx, ops)
		if !ops[0].Unknown {
			t.Error("an answer through a stalled link")
		}
		s.Stall(false)
		synctest.Wait()
		if _, found := server.Get("key"); !found {
			t.Error("a stalled claim was not carried out when the link went on")
		}
	})
}

func TestEvents(t *testing.T) {
	for _, test := range []struct {
		name   string
		config faulty.Config
		events []store.Event
		late   bool
	}{
		{name: "no faults", events: []store.Event{{Key: "key"}}},
		{name: "missing", config: faulty.Config{LoseEvent: 1}},
		{name: "late", config: faulty.Config{DelayEvent: 1}, events: []store.Event{{Key: "key"}}, late: true},
		{name: "doubled", config: faulty.Config{DoubleEvent: 1}, events: []store.Event{{Key: "key"}, {Key: "key"}}, late: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server memlock.Server
				test.config.MaxDelay = delay
				s := faulty.New(server.Store(), test.config)
				defer s.Close()
				var events []store.Event
				var last time.Time
				s.Subscribe(func(e store.Event) { events, last = append(events, e), time.Now() })
				s.Look(t.Context(), []store.Op{{Key: "key"}})
				changed := time.Now()
				server.Set("key", "other", 0)
				time.Sleep(2 * delay)
				synctest.Wait()
				if !slices.Equal(events, test.events) {
					t.Errorf("events %v, want %v", events, test.events)
				}
				if late := last.After(changed); late != test.late {
					t.Errorf("late %v, want %v", late, test.late)
				}
			})
		})
	}
}

func TestForgedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		s := faulty.New(server.Store(), faulty.Config{ForgeEvent: 1})
		defer s.Close()
		events := make(chan store.Event, 1000)
		s.Subscribe(func(e store.Event) { events <- e })
		for range 100 {
			s.Look(t.Context(), []store.Op{{Key: "key"}})
		}
		time.Sleep(time.Second)
		kinds := map[store.Event]int{}
		for range 100 {
			kinds[<-events]++
		}
		if kinds[store.Event{All: true}] == 0 || kinds[store.Event{Key: "key"}] == 0 || len(kinds) < 3 {
			t.Errorf("forged only %v", kinds)
		}
	})
}

// A batch that breaks in two has an answer for one half and none for the other.
func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		s := faulty.New(server.Store(), faulty.Config{Split: 1, Refuse: 0.5})
		defer s.Close()
		ops := make([]store.Op, 32)
		for i := range ops {
			ops[i] = store.Op{Key: string(rune('a' + i)), Owner: "me", Validity: validity}
		}
		s.Claim(t.Context(), ops)
		refused := 0
		for i := range ops {
			if ops[i].Err != nil {
				refused++
			}
		}
		if refused == 0 || refused == len(ops) {
			t.Errorf("%d of %d refused", refused, len(ops))
		}
		if claimed := len(server.Keys()); claimed+refused != len(ops) {
			t.Errorf("%d claimed and %d refused of %d", claimed, refused, len(ops))
		}
	})
}

// A lane that is stalled does not hold up the others.
func TestStallLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Lanes: 2})
		s := faulty.New(server.Store(), faulty.Config{})
		defer s.Close()
		s.StallLane(1, true)
		for _, key := range []string{"a", "b"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			ops := []store.Op{{Key: key, Owner: "me", Validity: validity}}
			s.Claim(ctx, ops)
			if stalled := ops[0].Err != nil; stalled != (s.Lane(key) == 1) {
				t.Errorf("lane %d: %v", s.Lane(key), ops[0].Err)
			}
		}
		if s.Lane("a") == s.Lane("b") {
			t.Error("both keys are on one lane")
		}
		s.StallLane(1, false)
		synctest.Wait()
		if len(server.Keys()) != 2 {
			t.Errorf("keys %q", server.Keys())
		}
	})
}

// Close ends what is under way, however stuck it is.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		s := faulty.New(server.Store(), faulty.Config{})
		s.Stall(true)
		ops := []store.Op{{Key: "key", Owner: "me", Validity: validity}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Claim(context.Background(), ops)
		}()
		synctest.Wait()
		s.Close()
		<-done
		if !errors.Is(ops[0].Err, faulty.ErrClosed) || !ops[0].Unknown {
			t.Errorf("error %v, unknown %v", ops[0].Err, ops[0].Unknown)
		}
		s.Claim(t.Context(), ops)
		if ops[0].Err == nil || ops[0].Unknown {
			t.Errorf("after Close: error %v, unknown %v", ops[0].Err, ops[0].Unknown)
		}
	})
}
