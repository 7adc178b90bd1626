package lab

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func startReplicated(t *testing.T, replicas int, cfg Config) *Replicated {
	t.Helper()
	r, err := StartReplicated(replicas, cfg)
	must(t, err)
	t.Cleanup(r.Stop)
	return r
}

// arrives waits until a server has a value.
func arrives(t *testing.T, s *Server, key, value string) {
	t.Helper()
	must(t, poll(5*time.Second, "the replica", func() error {
		if got, err := s.Do("GET", key); err != nil || got != value {
			return fmt.Errorf("it has %v, %v", got, err)
		}
		return nil
	}))
}

func TestReplicatedWritesReachEveryReplica(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 2, Config{Password: "secret"})
	expect(t, r.Primary.Do, "OK", "SET", "k", "v")
	expect(t, r.Primary.Do, int64(2), "WAIT", "2", "4000")
	for i, s := range r.Replicas {
		expect(t, s.Do, "v", "GET", "k")
		var e ReplyError
		if _, err := s.Do("SET", "k", "w"); !errors.As(err, &e) || !strings.HasPrefix(string(e), "READONLY") {
			t.Error("replica", i, "takes writes:", err)
		}
		if r.Link(i).Open() == 0 {
			t.Error("replica", i, "has a link of its own")
		}
	}
	must(t, r.Replicas[0].Restart())
	arrives(t, r.Replicas[0], "k", "v") // as a replica, again
}

func TestReplicatedWithTLS(t *testing.T) {
	t.Parallel()
	certs, err := NewCerts()
	must(t, err)
	defer certs.Remove()
	r := startReplicated(t, 1, Config{TLS: certs})
	expect(t, r.Primary.Do, "OK", "SET", "k", "v")
	expect(t, r.Primary.Do, int64(1), "WAIT", "1", "4000")
}

func TestReplicatedStalledLinkLosesWhatIsNewWithThePrimary(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 2, Config{})
	expect(t, r.Primary.Do, "OK", "SET", "k", "old")
	expect(t, r.Primary.Do, int64(2), "WAIT", "2", "4000")
	r.Link(0).Stall(Down)
	expect(t, r.Primary.Do, "OK", "SET", "k", "new")
	expect(t, r.Primary.Do, int64(1), "WAIT", "2", "200")
	arrives(t, r.Replicas[1], "k", "new")
	expect(t, r.Replicas[0].Do, "old", "GET", "k")

	r.Primary.Kill()
	must(t, r.Promote(0))
	expect(t, r.Replicas[0].Do, "old", "GET", "k")
	expect(t, r.Replicas[0].Do, "OK", "SET", "k", "other")
	r.Link(0).Heal() // what was under way belongs to a primary that it no longer follows
	expect(t, r.Replicas[0].Do, "other", "GET", "k")
	expect(t, r.Replicas[1].Do, "new", "GET", "k")
}

func TestReplicatedHealedLinkCatchesUp(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 1, Config{})
	r.Link(0).Stall(Both)
	expect(t, r.Primary.Do, "OK", "SET", "k", "v")
	expect(t, r.Primary.Do, int64(0), "WAIT", "1", "200")
	expect(t, r.Replicas[0].Do, nil, "GET", "k")
	r.Link(0).Heal()
	expect(t, r.Primary.Do, int64(1), "WAIT", "1", "4000")
	expect(t, r.Replicas[0].Do, "v", "GET", "k")
}

func TestReplicatedAcknowledgementsCanStallAlone(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 1, Config{})
	r.Link(0).Stall(Up)
	expect(t, r.Primary.Do, "OK", "SET", "k", "v")
	expect(t, r.Primary.Do, int64(0), "WAIT", "1", "200")
	arrives(t, r.Replicas[0], "k", "v")
}

func TestReplicatedPromotionLeavesTheOldPrimaryAsItIs(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 1, Config{})
	must(t, r.Promote(0))
	expect(t, r.Primary.Do, "OK", "SET", "k", "old primary")
	expect(t, r.Replicas[0].Do, "OK", "SET", "k", "new primary")
	expect(t, r.Primary.Do, "old primary", "GET", "k")
}

func TestReplicatedTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	if r, err := StartReplicated(1, Config{Args: []string{"--no-such-setting", "1"}}); err == nil {
		r.Stop()
		t.Error("started")
	}
}

// Not parallel: it counts all goroutines.
func TestReplicatedStopsAtOnceAndLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	r, err := StartReplicated(2, Config{})
	must(t, err)
	r.Link(0).Stall(Both)
	expect(t, r.Primary.Do, "OK", "SET", "k", "v") // for which a primary that ends would wait
	began := time.Now()
	r.Stop()
	if took := time.Since(began); took > time.Second {
		t.Error("stopped after", took)
	}
	r.Stop()
	noMoreGoroutines(t, before)
}
