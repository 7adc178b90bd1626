package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// Those who give up waiting for a name are nobody else's concern. The crowd's leaving takes as long as it takes (a second on two cores), but
// nobody waits for more than a moment of that.
func TestScaleLeavingCrowd(t *testing.T) {
	if raced {
		t.Skip("the race detector does not bear so many goroutines; make test runs this without it")
	}
	const crowd = 100_000
	l, err := memlock.New(ctxlock.LockerOption{KeyMajority: 1, KeyValidity: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, release, err := l.WithContext(t.Context(), "wanted")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, crowd)
	for range crowd {
		go func() {
			_, _, err := l.WithContext(ctx, "wanted")
			left <- err
		}()
	}
	for waitingFor(t, l, "wanted") < crowd {
		time.Sleep(time.Millisecond)
	}

	went := time.Now()
	go leave()
	var longest time.Duration
	for gone := 0; gone < crowd; {
		time.Sleep(50 * time.Microsecond) // else the runtime has it wait behind all others for having run for long
		began := time.Now()
		_, release, err := l.TryWithContext(t.Context(), "another")
		if err != nil {
			t.Fatal(err)
		}
		release()
		longest = max(longest, time.Since(began))
		for ; len(left) > 0; gone++ {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
	all := time.Since(went)
	t.Logf("the longest try took %v while %d left in %v", longest, crowd, all)
	if longest > all/4 {
		t.Errorf("a try of another name took %v while a crowd left in %v", longest, all)
	}
}

// waitingFor is how many wait for a name.
func waitingFor(t *testing.T, l ctxlock.Locker, name string) int {
	t.Helper()
	status, err := l.Look(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return status.Waiting
}
