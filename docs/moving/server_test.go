package moving

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// ttl is how long locks live here.
const ttl = 300 * time.Millisecond

// The peers' client logs each connection that fails, which some of these are to do.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// work is what locks are for.
func work(ctx context.Context) error { return ctx.Err() }

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

// client connects the peers to a server.
func client(t *testing.T, s *lab.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// locker connects ctxlock to a server.
func locker(t *testing.T, s *lab.Server) ctxlock.Locker {
	t.Helper()
	l, err := ctxlock.NewLocker(ctxlock.LockerOption{
		ClientOption: valkey.ClientOption{InitAddress: []string{s.Addr()}},
		KeyMajority:  1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// ok fails the test on an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is fails the test unless the error is another.
func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, not %v", err, want)
	}
}
