package main

import (
	"context"
	"fmt"
	"time"

	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

const waiterCount = 50

// idleWaiters has 50 lockers wait for a lock that is extended four times a second, and counts the server's commands.
func idleWaiters(server *lab.Server) error {
	for _, validity := range []time.Duration{5 * time.Second, time.Second} {
		own, err := idle(server, func(prefix string) (dropIn, error) {
			return openCtxlock(ctxlock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: prefix, KeyValidity: validity, ExtendInterval: 250 * time.Millisecond, ClientOption: client(server.Addr())}, ctxlock.Contention{})
		})
		if err != nil {
			return err
		}
		peer, err := idle(server, func(prefix string) (dropIn, error) {
			return valkeylock.NewLocker(valkeylock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: prefix, KeyValidity: validity, ExtendInterval: 250 * time.Millisecond, ClientOption: client(server.Addr())})
		})
		if err != nil {
			return err
		}
		fmt.Printf("  -> commands a second for each waiter, KeyValidity %v: ctxlock %.2f (at most 1), valkeylock %.2f\n", validity, own, peer)
	}
	return nil
}

// idle gives the commands a second that each waiter costs the server. Lockers other than the holder's never extend.
func idle(server *lab.Server, open func(prefix string) (dropIn, error)) (float64, error) {
	prefix := fmt.Sprintf("idle%d", time.Now().UnixNano())
	holder, err := open(prefix)
	if err != nil {
		return 0, err
	}
	defer holder.Close()
	_, release, err := holder.WithContext(background, "name")
	if err != nil {
		return 0, err
	}
	alone := commandRate(server)
	ctx, cancel := context.WithCancel(background)
	done := make(chan struct{}, waiterCount)
	for range waiterCount {
		waiter, err := open(prefix)
		if err != nil {
			cancel()
			return 0, err
		}
		defer waiter.Close()
		go func() {
			_, _, _ = waiter.WithContext(ctx, "name")
			done <- struct{}{}
		}()
	}
	time.Sleep(time.Second) // they have settled
	rate := commandRate(server) - alone
	cancel()
	for range waiterCount {
		<-done
	}
	release()
	return rate / waiterCount, nil
}

// commandRate is how many commands a second the server runs, but for what clients send to keep their connections.
func commandRate(server *lab.Server) float64 {
	start, commands := time.Now(), server.Commands()-server.Calls("ping")
	time.Sleep(3 * time.Second)
	return float64(server.Commands()-server.Calls("ping")-commands) / time.Since(start).Seconds()
}
