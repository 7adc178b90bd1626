package sim

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// What only a server can tell of docs/scaling.md: memory and CPU. These are benchmarks, so that they run when they are asked for:
//
//	CTXLOCK_SERVER=… go test ./internal/sim -run '^$' -bench 'Server/' -benchtime 1x -lockers 1000
//
// The lockers of all processes live in this one, which shares the machine with the server. What the server spent is read from INFO.

var (
	lockers   = flag.Int("lockers", 1000, "how many lockers BenchmarkServer opens")
	held      = flag.Int("held", 100_000, "how many locks BenchmarkServer/held holds")
	openers   = flag.Int("openers", 4, "how many of them at once")
	heldEvery = flag.Duration("every", scaleE, "how often they are extended")
)

// gauge reads what a server has spent.
type gauge struct {
	b      *testing.B
	server *lab.Server

	at    time.Time
	cpu   float64
	calls map[string]float64
	usec  map[string]float64
	out   float64
}

func startServer(b *testing.B, args ...string) *lab.Server {
	b.Helper()
	server, err := lab.Start(lab.Config{Args: append([]string{"--maxclients", "20000"}, args...)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	return server
}

func (g *gauge) info(section string) map[string]string {
	info, err := g.server.Info(section)
	if err != nil {
		g.b.Fatal(err)
	}
	return info
}

func (g *gauge) number(section, field string) float64 {
	x, _ := strconv.ParseFloat(g.info(section)[field], 64)
	return x
}

func (g *gauge) spent() float64 {
	cpu := g.info("cpu")
	user, _ := strconv.ParseFloat(cpu["used_cpu_user"], 64)
	sys, _ := strconv.ParseFloat(cpu["used_cpu_sys"], 64)
	return user + sys
}

// stats reads commandstats.
func (g *gauge) stats() (calls, usec map[string]float64) {
	calls, usec = make(map[string]float64), make(map[string]float64)
	for name, said := range g.info("commandstats") {
		name = strings.TrimPrefix(name, "cmdstat_")
		if strings.HasPrefix(name, "info") {
			continue
		}
		for part := range strings.SplitSeq(said, ",") {
			key, value, _ := strings.Cut(part, "=")
			x, _ := strconv.ParseFloat(value, 64)
			switch key {
			case "calls":
				calls[name] = x
			case "usec":
				usec[name] = x
			}
		}
	}
	return calls, usec
}

// start begins a measurement.
func (g *gauge) start() {
	g.at, g.cpu = time.Now(), g.spent()
	g.calls, g.usec = g.stats()
	g.out = g.number("stats", "total_net_output_bytes")
}

// tell ends one, and prints what was spent: a second, and for each of so many.
func (g *gauge) tell(what string, each float64) {
	took := time.Since(g.at).Seconds()
	cpu := g.spent() - g.cpu
	fmt.Printf("%s: %.1f %% of a core, %.2f us for each of %.0f, %.0f KB/s out\n", what, 100*cpu/took, 1e6*cpu/each, each, (g.number("stats", "total_net_output_bytes")-g.out)/took/1024)
	calls, usec := g.stats()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		if n := calls[name] - g.calls[name]; n > 0 {
			fmt.Printf("    %-20s %9.0f/s  %6.2f us a call\n", name, n/took, (usec[name]-g.usec[name])/n)
		}
	}
}

// openLockers opens lockers with buffers that fit many into one process.
func openLockers(b *testing.B, server *lab.Server, n int, options ctxlock.Options) (all []ctxlock.Locker) {
	b.Helper()
	options.KeyMajority, options.NoLoopTracking = 1, true
	options.ClientOption = valkey.ClientOption{InitAddress: []string{server.Addr()}, RingScaleEachConn: 5, ReadBufferEachConn: 4096, WriteBufferEachConn: 4096}
	all = make([]ctxlock.Locker, n)
	var opening sync.WaitGroup
	for w := range *openers {
		opening.Go(func() {
			for i := w; i < n; i += *openers {
				var err error
				if all[i], err = ctxlock.New(options); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	opening.Wait()
	if b.Failed() {
		b.FailNow()
	}
	b.Cleanup(func() {
		var closing sync.WaitGroup
		for w := range 64 {
			closing.Go(func() {
				for i := w; i < n; i += 64 {
					all[i].Close()
				}
			})
		}
		closing.Wait()
	})
	return all
}

func BenchmarkServer(b *testing.B) {
	b.Run("waiters", serverWaiters)
	b.Run("handoffs", serverHandoffs)
	b.Run("dead", serverDead)
	b.Run("held", serverHeld)
	b.Run("table", serverTable)
}

// serverWaiters has many wait for one name, whose holder crashes in the end.
func serverWaiters(b *testing.B) {
	server := startServer(b)
	g := &gauge{b: b, server: server}
	n := float64(*lockers)
	memory := g.number("memory", "used_memory")
	g.start()
	all := openLockers(b, server, *lockers, ctxlock.Options{})
	g.tell("opening", n)
	time.Sleep(3 * time.Second)
	fmt.Printf("memory of %.0f connections: %.1f KB each\n", n, (g.number("memory", "used_memory")-memory)/n/1024)
	g.start()
	time.Sleep(5 * time.Second)
	g.tell("idle connections", n)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	memory = g.number("memory", "used_memory")
	do := func(args ...string) any {
		answer, err := server.Do(args...)
		if err != nil {
			b.Fatal(err)
		}
		return answer
	}
	// A holder whose value says that it passes the lock on. It is extended here, until it "crashes".
	const key = "valkeylock:0:name"
	do("SET", key, "ctxlock/somebody.x/+1", "PX", "5000")
	var alive atomic.Bool
	alive.Store(true)
	crashed := make(chan struct{})
	go func() {
		defer close(crashed)
		for alive.Load() {
			if kept, err := server.Do("PEXPIRE", key, "5000"); err != nil || kept != int64(1) {
				b.Errorf("the holder's key was not extended: %v, %v", kept, err)
			}
			time.Sleep(scaleE)
		}
	}()
	had := make(chan time.Time, *lockers)
	var calls sync.WaitGroup
	for _, l := range all {
		calls.Go(func() {
			_, release, err := l.WithContext(ctx, "name")
			if err == nil {
				had <- time.Now()
				<-ctx.Done()
			}
			release()
		})
	}
	g.start()
	time.Sleep(2 * time.Second)
	g.tell("coming", n)
	time.Sleep(10 * time.Second)
	g.start()
	time.Sleep(scaleE + 3*scaleV) // a cycle
	g.tell("waiting", n)
	fmt.Printf("memory of %.0f waiters: %.0f bytes each; queue %v, list %v\n", n, (g.number("memory", "used_memory")-memory)/n,
		do("MEMORY", "USAGE", "valkeylock:Z:{valkeylock:0:name}", "SAMPLES", "0"), do("MEMORY", "USAGE", "valkeylock:Q:{valkeylock:0:name}", "SAMPLES", "0"))
	alive.Store(false)
	<-crashed
	asked := time.Now() // the answer may be late: the server is busy with so many
	left, ok := do("PTTL", key).(int64)
	if !ok || left <= 0 {
		b.Errorf("the holder's key has %v left", left)
	}
	ranOut := asked.Add(time.Duration(left) * time.Millisecond)
	time.Sleep(time.Until(ranOut))
	g.start()
	select {
	case at := <-had:
		fmt.Printf("the next had the lock %v after the key ran out\n", at.Sub(ranOut))
	case <-time.After(5 * time.Second):
		b.Error("nobody got the lock")
	}
	time.Sleep(time.Until(ranOut.Add(500 * time.Millisecond)))
	g.tell("after the crash", n)
	g.start()
	cancel()
	calls.Wait()
	g.tell("all leave", n)
}

// serverHandoffs has many take one lock in turn.
func serverHandoffs(b *testing.B) {
	server := startServer(b)
	g := &gauge{b: b, server: server}
	for _, n := range []int{2, 16, 128, 512} {
		all := openLockers(b, server, n, ctxlock.Options{LockerOption: ctxlock.LockerOption{KeyPrefix: fmt.Sprint("crowd", n)}})
		ctx, cancel := context.WithCancel(context.Background())
		turns := make([]atomic.Int64, n)
		var calls sync.WaitGroup
		for i, l := range all {
			calls.Go(func() {
				for ctx.Err() == nil {
					_, release, err := l.WithContext(ctx, "name")
					if err == nil {
						turns[i].Add(1)
					}
					release()
				}
			})
		}
		time.Sleep(time.Second)
		g.start()
		before := make([]int64, n)
		for i := range turns {
			before[i] = turns[i].Load()
		}
		time.Sleep(3 * time.Second)
		sum, least, most := int64(0), int64(math.MaxInt64), int64(0)
		for i := range turns {
			had := turns[i].Load() - before[i]
			sum, least, most = sum+had, min(least, had), max(most, had)
		}
		g.tell(fmt.Sprintf("%d lockers, %d handoffs a second, the busiest %.3f times the idlest", n, sum/3, float64(most)/float64(least)), float64(sum))
		cancel()
		calls.Wait()
		for _, l := range all {
			l.Close()
		}
	}
}

// serverDead has a lock passed on past many who have died in the queue: who is alive came before them, or after.
func serverDead(b *testing.B) {
	server := startServer(b)
	l := openLockers(b, server, 2, ctxlock.Options{})
	for i, dead := range []int{0, 1000, 10_000, 1} {
		name := fmt.Sprint("name", i)
		_, release, err := l[0].WithContext(context.Background(), name)
		if err != nil {
			b.Fatal(err)
		}
		last := i == 3
		if last {
			die(b, server, name, dead)
		}
		had := make(chan time.Time)
		go func() {
			_, release, err := l[1].WithContext(context.Background(), name)
			if err != nil {
				b.Error(err)
			}
			had <- time.Now()
			release()
		}()
		time.Sleep(200 * time.Millisecond) // it stands in the queue
		if !last {
			die(b, server, name, dead)
		}
		began := time.Now()
		release()
		fmt.Printf("%d dead in front of one alive, who came after them: %v; the lock was passed on within %v\n", dead, last, (<-had).Sub(began))
	}
}

// die stands waiters in front of a queue whom no message reaches.
func die(b *testing.B, server *lab.Server, name string, n int) {
	b.Helper()
	for i := range n {
		if _, err := server.Do("ZADD", "valkeylock:Z:{valkeylock:0:"+name+"}", strconv.Itoa(i), fmt.Sprintf("5000::1:mdead%d:ctxlock/dead%d.x/+1", i, i)); err != nil {
			b.Fatal(err)
		}
	}
}

// serverHeld has one locker hold many names.
func serverHeld(b *testing.B) {
	server := startServer(b)
	g := &gauge{b: b, server: server}
	n := float64(*held)
	validity := 2 * *heldEvery
	l := openLockers(b, server, 1, ctxlock.Options{LockerOption: ctxlock.LockerOption{KeyValidity: validity}})[0]
	memory := g.number("memory", "used_memory")
	g.start()
	take(b, l, *held)
	g.tell("taking", n)
	time.Sleep(*heldEvery + time.Second)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	own := processCPU()
	g.start()
	at := time.Now()
	time.Sleep(2 * *heldEvery)
	g.tell(fmt.Sprintf("holding, extended every %v", *heldEvery), 2*n)
	runtime.ReadMemStats(&after)
	fmt.Printf("server memory: %.0f bytes a name; tracking table: %.0f keys; the holder's own CPU: %.1f %% of a core\n",
		(g.number("memory", "used_memory")-memory)/n, g.number("stats", "tracking_total_keys"), 100*(processCPU()-own)/time.Since(at).Seconds())
}

// serverTable has a tracking table that is too small for what is held.
func serverTable(b *testing.B) {
	for _, most := range []string{"0", "10000"} {
		server := startServer(b, "--tracking-table-max-keys", most)
		g := &gauge{b: b, server: server}
		const n = 20_000
		l := openLockers(b, server, 1, ctxlock.Options{})[0]
		locks := take(b, l, n)
		time.Sleep(scaleE)
		g.start()
		time.Sleep(2 * scaleE)
		g.tell(fmt.Sprintf("%d names, tracking-table-max-keys %s (%.0f in the table)", n, most, g.number("stats", "tracking_total_keys")), 2*n)
		lost := 0
		for _, ctx := range locks {
			if ctx.Err() != nil {
				lost++
			}
		}
		fmt.Printf("    %d of them were lost\n", lost)
	}
}

func take(b *testing.B, l ctxlock.Locker, n int) []context.Context {
	b.Helper()
	locks := make([]context.Context, n)
	var taking sync.WaitGroup
	for w := range 64 {
		taking.Go(func() {
			for i := w; i < n; i += 64 {
				var err error
				if locks[i], _, err = l.WithContext(context.Background(), fmt.Sprint(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	taking.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return locks
}

// processCPU is the CPU time in seconds that this process has used.
func processCPU() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
