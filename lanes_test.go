package ctxlock_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// A lock whose keys travel on several lanes is won before all have answered, and may be given back before all have been asked.
// Nothing is left of it all the same.
func TestLocksThatAreGivenBackBeforeAllLanesHaveAnswered(t *testing.T) {
	server := memlock.NewServer(memlock.ServerOption{Lanes: 5})
	l, err := server.NewLocker(ctxlock.LockerOption{KeyMajority: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var work sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		work.Go(func() {
			for range 500 {
				_, cancel, err := l.WithContext(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				cancel()
			}
		})
	}
	work.Wait()
	for start := time.Now(); len(server.Keys()) > 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("left: %q", server.Keys())
		}
	}
}
