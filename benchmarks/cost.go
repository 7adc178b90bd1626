package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

const heldCount = 10_000

// heldLocks holds 10,000 locks, extended every second, and asks what that costs the client.
func heldLocks(server *lab.Server) error {
	l, err := ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: "ours", KeyValidity: 10 * time.Second, ExtendInterval: time.Second, ClientOption: client(server.Addr())})
	if err != nil {
		return err
	}
	own, err := hold("ctxlock", l)
	if err != nil {
		return err
	}
	v, err := valkeylock.NewLocker(valkeylock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: "theirs", KeyValidity: 10 * time.Second, ExtendInterval: time.Second, ClientOption: client(server.Addr())})
	if err != nil {
		return err
	}
	peer, err := hold("valkeylock", v)
	if err != nil {
		return err
	}
	fmt.Printf("  -> memory a lock: %.2f KB (at most 1.2); goroutines: %d for all (none each)\n", own.memory/1024, own.goroutines)
	ratio("client CPU of extending, ctxlock to valkeylock", own.cpu/peer.cpu, "at most 0.33")
	return nil
}

type holding struct {
	memory     float64 // bytes a lock
	goroutines int     // beyond those of the idle locker
	cpu        float64 // cores, while extending
}

func hold(who string, l valkeylock.Locker) (holding, error) {
	defer l.Close()
	before, goroutines := heap(), runtime.NumGoroutine()
	contexts := make([]context.Context, heldCount)
	releases := make([]context.CancelFunc, heldCount)
	for i := range contexts {
		var err error
		if contexts[i], releases[i], err = l.WithContext(background, fmt.Sprintf("held %d", i)); err != nil {
			return holding{}, err
		}
	}
	h := holding{memory: float64(heap()-before) / heldCount}
	time.Sleep(2 * time.Second) // all have been extended once, and locks are spread as they will be
	h.goroutines = runtime.NumGoroutine() - goroutines
	var cpu []float64
	for range *rounds {
		start, used := time.Now(), processTime()
		time.Sleep(time.Second)
		cpu = append(cpu, float64(processTime()-used)/float64(time.Since(start)))
	}
	h.cpu = median(cpu)
	for i, ctx := range contexts {
		if ctx.Err() != nil {
			return h, fmt.Errorf("%s lost lock %d: %w", who, i, context.Cause(ctx))
		}
	}
	fmt.Printf("  %-12s %5.2f KB and %.2f goroutines a lock, %5.1f %% of a core to extend all of them every second\n", who, h.memory/1024, float64(h.goroutines)/heldCount, 100*h.cpu)
	releaseAll(releases)
	return h, nil
}

// releaseAll releases many at a time, since each waits for its round trip.
func releaseAll(releases []context.CancelFunc) {
	slots := make(chan struct{}, 256)
	for _, release := range releases {
		slots <- struct{}{}
		go func() { release(); <-slots }()
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) + int64(stats.StackInuse)
}

// processTime is the CPU time that this process has used.
func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

const waiterCount = 50

// idleWaiters has 50 lockers wait for a lock that is extended four times a second, and counts the server's commands.
func idleWaiters(server *lab.Server) error {
	for _, validity := range []time.Duration{5 * time.Second, time.Second} {
		own, err := idle(server, func(prefix string) (valkeylock.Locker, error) {
			return ctxlock.NewLocker(ctxlock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: prefix, KeyValidity: validity, ExtendInterval: 250 * time.Millisecond, ClientOption: client(server.Addr())})
		})
		if err != nil {
			return err
		}
		peer, err := idle(server, func(prefix string) (valkeylock.Locker, error) {
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
func idle(server *lab.Server, open func(prefix string) (valkeylock.Locker, error)) (float64, error) {
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
	time.Sleep(4 * time.Second)
	return float64(server.Commands()-server.Calls("ping")-commands) / time.Since(start).Seconds()
}

// allocations counts those of one acquire and release.
func allocations(server *lab.Server) error {
	contenders, err := field(server.Addr())
	if err != nil {
		return err
	}
	defer stopAll(contenders)
	for _, c := range contenders {
		var failure error
		count := testing.AllocsPerRun(5000, func() {
			if err := c.pair("name"); err != nil {
				failure = err
			}
		})
		if failure != nil {
			return fmt.Errorf("%s: %w", c.name, failure)
		}
		fmt.Printf("  %-26s %5.1f allocations for acquire and release\n", c.name, count)
	}
	fmt.Println("  -> ctxlock, majority 1: at most 16")
	return nil
}

// paths shows what each way of asking costs that the servers at hand offer, on each server found in SERVERS or the one in use.
func paths(server *lab.Server) error {
	c, err := valkey.NewClient(client(server.Addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, p := range pathsOf(c) {
		if _, err := measure(1, p.pair); err != nil {
			if strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), "syntax error") {
				fmt.Printf("  %-44s not on this server\n", p.name)
				continue
			}
			return err
		}
		rates, err := race(64, p)
		if err != nil {
			return err
		}
		fmt.Printf("  %-44s %9.0f/s\n", p.name, rates[0])
	}
	return nil
}
