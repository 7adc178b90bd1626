package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
	"github.com/valkey-io/valkey-go"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// locker is what the three have in common.
type locker interface {
	WithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	TryWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	ForceWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	Close()
}

// setting is one way to run a fleet.
type setting struct {
	majority int32
	polling  bool // DisableCache
}

func (s setting) String() string {
	return fmt.Sprintf("majority %d, polling %t", s.majority, s.polling)
}

var settings = []setting{{majority: 1}, {majority: 2}, {majority: 1, polling: true}, {majority: 2, polling: true}}

const (
	prefix   = "rueidislock" // its default, and the one that all in a fleet have to share
	validity = 2 * time.Second
)

// maker makes a locker of one kind.
type maker struct {
	kind string
	make func(address string, s setting) (locker, error)
}

var makers = []maker{
	{"ctxlock", func(address string, s setting) (locker, error) {
		return ctxlock.NewLocker(ctxlock.LockerOption{
			KeyPrefix: prefix, KeyMajority: s.majority, KeyValidity: validity,
			ClientOption: valkey.ClientOption{InitAddress: []string{address}, DisableCache: s.polling}})
	}},
	{"valkeylock", func(address string, s setting) (locker, error) {
		return valkeylock.NewLocker(valkeylock.LockerOption{
			KeyPrefix: prefix, KeyMajority: s.majority, KeyValidity: validity,
			ClientOption: valkey.ClientOption{InitAddress: []string{address}, DisableCache: s.polling}})
	}},
	{"rueidislock", func(address string, s setting) (locker, error) {
		return rueidislock.NewLocker(rueidislock.LockerOption{
			KeyPrefix: prefix, KeyMajority: s.majority, KeyValidity: validity,
			ClientOption: rueidis.ClientOption{InitAddress: []string{address}, DisableCache: s.polling}})
	}},
}

// server starts a server that the test has to itself.
func server(t *testing.T) *lab.Server {
	t.Helper()
	s, err := lab.Start(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// of makes a locker that is closed when the test ends.
func (m maker) of(t *testing.T, s *lab.Server, how setting) locker {
	t.Helper()
	l, err := m.make(s.Addr(), how)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// forEachSetting runs a test in each setting, each on a server of its own.
func forEachSetting(t *testing.T, test func(t *testing.T, s *lab.Server, how setting)) {
	for _, how := range settings {
		t.Run(how.String(), func(t *testing.T) { test(t, server(t), how) })
	}
}

// retried is WithContext that asks again now and then, since waiters of valkeylock and rueidislock miss releases (v1.0.79). What
// it waits with has not ended when it comes back with a lock: they take that for a release.
func retried(l locker, ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
	for {
		attempt, end := context.WithCancel(ctx)
		impatience := time.AfterFunc(100*time.Millisecond, end)
		held, cancel, err := l.WithContext(attempt, name)
		if impatience.Stop() {
			return held, func() { cancel(); end() }, err
		}
		if err == nil {
			cancel()
		}
		if ctx.Err() != nil {
			end()
			return held, func() {}, ctx.Err()
		}
	}
}

// refused tells whether a try was refused because another holds the lock.
func refused(err error) bool {
	return errors.Is(err, ctxlock.ErrNotLocked) || errors.Is(err, valkeylock.ErrNotLocked) || errors.Is(err, rueidislock.ErrNotLocked)
}

func TestAllThreeExcludeEachOtherAndMakeProgress(t *testing.T) {
	const name, least, enough = "x", 3, time.Second
	forEachSetting(t, func(t *testing.T, s *lab.Server, how setting) {
		var inside, overlaps, page atomic.Int64
		var stop atomic.Bool
		visits := make([]atomic.Int64, len(makers))
		ctx, end := context.WithTimeout(t.Context(), 30*time.Second)
		defer end()
		var work sync.WaitGroup
		for i, m := range makers {
			for range 2 {
				l := m.of(t, s, how)
				take := l.WithContext
				if m.kind != "ctxlock" {
					take = func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
						return retried(l, ctx, name)
					}
				}
				work.Go(func() {
					for !stop.Load() {
						held, cancel, err := take(ctx, name)
						if err != nil {
							t.Errorf("%s: %v", m.kind, err)
							return
						}
						if inside.Add(1) > 1 {
							overlaps.Add(1)
						}
						read := page.Load()
						time.Sleep(50 * time.Microsecond) // long enough for another to come in between
						if held.Err() == nil {
							page.Store(read + 1)
							visits[i].Add(1)
						}
						inside.Add(-1)
						cancel()
					}
				})
			}
		}
		start := time.Now()
		for behind := true; ctx.Err() == nil && (behind || time.Since(start) < enough); time.Sleep(10 * time.Millisecond) {
			behind = false
			for i := range visits {
				behind = behind || visits[i].Load() < least
			}
		}
		stop.Store(true)
		work.Wait()
		var sum int64
		for i, m := range makers {
			n := visits[i].Load()
			t.Logf("%s: %d visits", m.kind, n)
			if n < least {
				t.Errorf("%s was kept out", m.kind)
			}
			sum += n
		}
		if overlaps.Load() > 0 || page.Load() != sum {
			t.Errorf("%d overlaps; %d visits wrote %d", overlaps.Load(), sum, page.Load())
		}
	})
}

func TestWhatOneHoldsTheOthersAreRefusedAndForceEndsIt(t *testing.T) {
	forEachSetting(t, func(t *testing.T, s *lab.Server, how setting) {
		for _, a := range makers {
			for _, b := range makers {
				if a.kind == b.kind || a.kind != "ctxlock" && b.kind != "ctxlock" {
					continue
				}
				name := a.kind + " and " + b.kind
				here, there := a.of(t, s, how), b.of(t, s, how)
				ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
				defer end()
				held, cancel, err := here.WithContext(ctx, name)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if _, _, err := there.TryWithContext(ctx, name); !refused(err) {
					t.Errorf("%s: tried what another holds: %v", name, err)
				}
				if held.Err() != nil {
					t.Errorf("%s: lost by a try", name)
				}
				forced, release, err := there.ForceWithContext(ctx, name)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				select {
				case <-held.Done():
				case <-time.After(2 * validity):
					t.Errorf("%s: force did not end the lock", name)
				}
				cancel()
				if forced.Err() != nil {
					t.Errorf("%s: what was forced is lost: %v", name, context.Cause(forced))
				}
				in := make(chan error, 1)
				go func() {
					_, cancel, err := retried(here, ctx, name)
					cancel()
					in <- err
				}()
				select {
				case err := <-in:
					t.Errorf("%s: got in while another held: %v", name, err)
				case <-time.After(50 * time.Millisecond):
				}
				release()
				if err := <-in; err != nil {
					t.Errorf("%s: waited in vain: %v", name, err)
				}
			}
		}
	})
}
