package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// park has servers of each kind, which no test does anything to. They run from when they are first asked for.
type park struct {
	once   sync.Once
	err    error
	places map[Kind]Place
	single *lab.Server
	stops  []func()
}

var servers park

func TestMain(m *testing.M) {
	if runChild() { // the tests' binary is what etcd runs in
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "100") // they mostly wait
	code := m.Run()
	for _, stop := range servers.stops {
		stop()
	}
	os.Exit(code)
}

// place is where a test finds the servers of a kind.
func place(t *testing.T, kind Kind) Place {
	t.Helper()
	servers.once.Do(func() { servers.err = servers.start() })
	if servers.err != nil {
		t.Fatal(servers.err)
	}
	return servers.places[kind]
}

func (p *park) start() error {
	p.places = make(map[Kind]Place)
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		errs []error
	)
	each := func(start func() (Place, func(), error)) {
		all.Go(func() {
			at, stop, err := start()
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); err == nil {
				at.Validity = validity
				p.places[at.Kind] = at
				p.stops = append(p.stops, stop)
			}
		})
	}
	each(p.startSingle)
	each(startNodes)
	each(startSentinel)
	each(startCluster)
	each(startEtcdPlace)
	all.Wait()
	return errors.Join(errs...)
}

func (p *park) startSingle() (_ Place, _ func(), err error) {
	if p.single, err = lab.Start(lab.Config{}); err != nil {
		return Place{}, nil, err
	}
	return Place{Kind: Single, Servers: []string{p.single.Addr()}}, p.single.Stop, nil
}

func startNodes() (Place, func(), error) {
	at := Place{Kind: Nodes}
	var nodes []*lab.Server
	stop := func() {
		for _, s := range nodes {
			s.Stop()
		}
	}
	for range 3 {
		s, err := lab.Start(lab.Config{})
		if err != nil {
			stop()
			return at, nil, err
		}
		nodes, at.Servers = append(nodes, s), append(at.Servers, s.Addr())
	}
	return at, stop, nil
}

func startSentinel() (Place, func(), error) {
	s, err := lab.StartSentinel(lab.Config{})
	if err != nil {
		return Place{}, nil, err
	}
	return Place{Kind: Sentinel, Servers: s.Addrs(), Primary: s.MasterSet}, s.Stop, nil
}

func startCluster() (Place, func(), error) {
	c, err := lab.StartCluster(3, 0, lab.Config{})
	if err != nil {
		return Place{}, nil, err
	}
	return Place{Kind: Cluster, Servers: c.Addrs()}, c.Stop, nil
}

func startEtcdPlace() (Place, func(), error) {
	s, err := startEtcd("", 0)
	if err != nil {
		return Place{}, nil, err
	}
	return Place{Kind: Etcd, Servers: []string{s.Addr()}}, s.Stop, nil
}

// everywhere runs a test for each contender on each kind of servers that it supports.
func everywhere(t *testing.T, test func(t *testing.T, who Contender, at Place)) {
	for _, who := range append(everybody(), oursWith(2)) {
		for _, kind := range []Kind{Single, Sentinel, Cluster, Nodes, Etcd} {
			if who.supports(kind) {
				t.Run(who.Library+" on "+string(kind), func(t *testing.T) { test(t, who, place(t, kind)) })
			}
		}
	}
}

func openLocker(t *testing.T, who Contender, at Place) Locker {
	t.Helper()
	l, err := who.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// lock takes a lock that is free.
func lock(t *testing.T, l Locker, name string) Holding {
	t.Helper()
	tries, patience := 1, 10*time.Second
	if stalls(l) {
		tries, patience = 10, time.Second
	}
	var err error
	for range tries {
		ctx, cancel := context.WithCancel(t.Context()) // the holding may end with it
		late := time.AfterFunc(patience, cancel)
		var h Holding
		if h, err = l.Lock(ctx, name); err != nil {
			cancel()
			continue
		}
		t.Cleanup(cancel)
		if !late.Stop() || !h.Alive() || h.Cause() != nil {
			t.Error("dead from the start:", h.Cause())
		}
		return h
	}
	t.Fatal(err)
	return nil
}

// stalls tells whether a wait may go on though the lock is free: an attempt of valkeylock's and rueidislock's whose answer takes longer than
// TryNextAfter, 20 ms, deletes the key again that it may have set, and their server does not tell them of what they did themselves. Who
// asks anew gets it.
func stalls(l Locker) bool {
	_, is := l.(dropInLocker)
	return is
}

// within fails the test if f takes longer, and says how long it took.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v", what, took)
	}
}

type received struct {
	Holding
	err error
}

// wait is Lock on a goroutine.
func wait(ctx context.Context, l Locker, name string) <-chan received {
	got := make(chan received, 1)
	go func() {
		h, err := l.Lock(ctx, name)
		got <- received{h, err}
	}()
	return got
}

// ownKeys are the keys of one name on the single server that the contender calls its own.
func ownKeys(t *testing.T, who Contender, name string) (own []string) {
	t.Helper()
	reply, err := servers.single.Do("KEYS", "*"+name+"*")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range reply.([]any) {
		if who.Own(key.(string)) {
			own = append(own, key.(string))
		}
	}
	return own
}

func TestContendersExcludeAndHold(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, who Contender, at Place) {
		t.Parallel()
		name := "excludes-" + strings.ReplaceAll(who.Library, " ", "-")
		one, other := openLocker(t, who, at), openLocker(t, who, at)
		defer other.Close()
		defer one.Close()
		first := lock(t, one, name)
		for _, l := range []Locker{one, other} {
			givesUp(t, l, name)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waiter := wait(ctx, other, name)
		staysAlive(t, first, waiter, 3*validity)
		within(t, releasing, "Release", func() {
			if err := first.Release(); err != nil {
				t.Error(err)
			}
		})
		second := next(t, waiter, other, name, cancel)
		if first.Alive() || first.Release() != nil {
			t.Error("the second Release did something")
		}
		if a, b := first.Token(), second.Token(); who.Fences && b <= a || !who.Fences && (a != 0 || b != 0) {
			t.Errorf("tokens %d and %d", a, b)
		}
		if at.Kind == Single && len(ownKeys(t, who, name)) == 0 {
			t.Error("it does not know its keys")
		}
		if err := second.Release(); err != nil || second.Alive() {
			t.Error("released:", err)
		}
		leavesNoKeys(t, who, at, name)
	})
}

// givesUp checks that a wait ends with its context.
func givesUp(t *testing.T, l Locker, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	within(t, time.Second, "a wait for 150ms", func() {
		if _, err := l.Lock(ctx, name); err == nil {
			t.Error("got a lock that is held")
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Error("the error does not tell that ctx has ended:", err)
		}
	})
}

func staysAlive(t *testing.T, h Holding, waiter <-chan received, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if !h.Alive() {
			t.Fatal("died:", h.Cause())
		}
		select {
		case <-waiter:
			t.Fatal("another got it")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// next is who waited with l. stop ends the wait.
func next(t *testing.T, waiter <-chan received, l Locker, name string, stop func()) Holding {
	t.Helper()
	select {
	case n := <-waiter:
		if n.err != nil {
			t.Fatal(n.err)
		}
		return n.Holding
	case <-time.After(validity):
	}
	if !stalls(l) {
		t.Fatal("the waiter does not get it")
	}
	stop()
	<-waiter
	return lock(t, l, name)
}

func leavesNoKeys(t *testing.T, who Contender, at Place, name string) {
	t.Helper()
	if at.Kind != Single {
		return
	}
	var left []string
	for range 100 {
		if left = ownKeys(t, who, name); len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("left behind:", left)
}

// slack is for a machine that has better to do.
const slack = 500 * time.Millisecond

func TestContendersNoticeThatTheirKeyWasDeleted(t *testing.T) {
	t.Parallel()
	limit := map[string]time.Duration{
		"ctxlock": 0, "valkeylock": 0, "rueidislock": 0, // the server tells them
		"redislock": validity / 3, "redsync": validity / 3, // the next extension
		"etcd": -1, // never: the session goes on
	}
	for _, who := range everybody() {
		t.Run(who.Library, func(t *testing.T) {
			t.Parallel()
			at := place(t, Single)
			if who.supports(Etcd) {
				at = place(t, Etcd)
			}
			l := openLocker(t, who, at)
			defer l.Close()
			h := lock(t, l, "deleted-"+who.Library)
			deleteKeys(t, who, at, "deleted-"+who.Library)
			if limit := limit[who.Library]; limit < 0 {
				staysAlive(t, h, nil, validity)
			} else {
				dies(t, h, limit+slack)
			}
			_ = h.Release()
		})
	}
}

func deleteKeys(t *testing.T, who Contender, at Place, name string) {
	t.Helper()
	if at.Kind == Etcd {
		c := etcdClient(t, at.Servers[0])
		if r, err := c.Delete(t.Context(), etcdPrefix+name, clientv3.WithPrefix()); err != nil || r.Deleted != 1 {
			t.Fatal(r, err)
		}
		return
	}
	for _, key := range ownKeys(t, who, name) {
		if _, err := servers.single.Do("DEL", key); err != nil {
			t.Fatal(err)
		}
	}
}

func etcdClient(t *testing.T, address string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dies(t *testing.T, h Holding, limit time.Duration) {
	t.Helper()
	for began := time.Now(); h.Alive(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("alive after %v", limit)
		}
	}
	if h.Alive() {
		t.Error("it came back to life")
	}
}

// A server that is killed refuses connections; one that is frozen accepts them.
func TestContendersNoticeThatTheServerHasGone(t *testing.T) {
	t.Parallel()
	limit := map[string]time.Duration{
		"ctxlock": validity, "redislock": validity, "redsync": validity,
		// Half a validity until the next extension, whose answer they wait for for a whole one. The keys live for one.
		"valkeylock": validity * 3 / 2, "rueidislock": validity * 3 / 2,
		"etcd": validity + time.Second, // it looks once a second
	}
	for _, who := range everybody() {
		for _, frozen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, frozen: %v", who.Library, frozen), func(t *testing.T) {
				t.Parallel()
				at, strike := victim(t, who, frozen)
				l := openLocker(t, who, at)
				h := lock(t, l, "gone")
				time.Sleep(validity) // etcd: until the first answers to its lease's requests are in
				strike()
				dies(t, h, limit[who.Library]+slack)
				within(t, releasing+slack, "Release", func() { _ = h.Release() })
				within(t, 2*releasing, "Close", l.Close)
			})
		}
	}
}

// victim is a server of one's own, and what strikes it.
func victim(t *testing.T, who Contender, frozen bool) (Place, func()) {
	t.Helper()
	var s interface {
		Addr() string
		Freeze()
		Kill()
		Stop()
	}
	var err error
	at := Place{Kind: Single, Validity: validity}
	if who.supports(Etcd) {
		at.Kind = Etcd
		s, err = startEtcd("", 0)
	} else {
		s, err = lab.Start(lab.Config{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	at.Servers = []string{s.Addr()}
	if frozen {
		return at, s.Freeze
	}
	return at, s.Kill
}

// This one runs alone, before those that run in parallel.
func TestCloseLeavesNoGoroutines(t *testing.T) {
	everywhere(t, func(t *testing.T, who Contender, at Place) {
		before, _ := goroutines()
		l := openLocker(t, who, at)
		name := "closes-" + string(at.Kind)
		h := lock(t, l, name)
		waiter := wait(t.Context(), l, name)
		time.Sleep(20 * time.Millisecond)
		within(t, 2*time.Second, "Close", l.Close)
		select {
		case got := <-waiter:
			if got.err == nil {
				t.Error("got a lock from a locker that is closed")
			}
		case <-time.After(time.Second):
			t.Error("Close leaves those who wait")
		}
		dies(t, h, slack)
		within(t, releasing+slack, "Release", func() { _ = h.Release() })
		for end := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			left, stacks := goroutines()
			if left <= before {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before\n%s", left, before, stacks)
			}
		}
	})
}

// goroutines counts them, without those of valkey-go and rueidis that let a cluster's connections which were replaced live for five more
// seconds, whatever becomes of the client.
func goroutines() (n int, stacks string) {
	buf := make([]byte, 1<<20)
	stacks = string(buf[:runtime.Stack(buf, true)])
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if !strings.Contains(stack, "(*clusterClient)._refresh.func") {
			n++
		}
	}
	return n, stacks
}

func TestOursDoesNotOwnItsCounters(t *testing.T) {
	for key, own := range map[string]bool{
		"valkeylock:0:a": true, "valkeylock:0:t:a": true, "valkeylock:Z:{valkeylock:0:a}": true, "valkeylock:q:a{b}": true,
		"valkeylock:T:{valkeylock:0:a}": false, "valkeylock:t:0:a{b}": false, "rueidislock:0:a": false,
	} {
		if oursWith(1).Own(key) != own {
			t.Error(key)
		}
	}
}

func TestContendersAreFoundAndDescribed(t *testing.T) {
	for _, who := range append(everybody(), oursWith(2)) {
		found, err := find(who.Library)
		if err != nil || found.Note != who.Note || who.Note == "" || who.Module == "" {
			t.Errorf("%s: note %q, module %q, %v", who.Library, who.Note, who.Module, err)
		}
	}
	if _, err := find("none"); err == nil {
		t.Error("found none")
	}
}

func TestEtcdReplacesASessionThatHasEnded(t *testing.T) {
	t.Parallel()
	at := place(t, Etcd)
	l := openLocker(t, etcds(), at)
	defer l.Close()
	h := lock(t, l, "replaced")
	lease := h.(*etcdHolding).session.Lease()
	if _, err := etcdClient(t, at.Servers[0]).Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	dies(t, h, validity+slack)
	if h.Cause() == nil {
		t.Error("no cause")
	}
	_ = h.Release()
	next := lock(t, l, "replaced")
	if next.Token() <= h.Token() {
		t.Errorf("tokens %d and %d", h.Token(), next.Token())
	}
	if err := next.Release(); err != nil {
		t.Error(err)
	}
}

func TestEtcdServer(t *testing.T) {
	t.Parallel()
	s, err := startEtcd("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	c := etcdClient(t, s.Addr())
	for asked, granted := range map[int64]int64{1: 2, 2: 2, 3: 3} { // two seconds are its least
		if r, err := c.Grant(t.Context(), asked); err != nil || r.TTL != granted {
			t.Errorf("a lease of %d: %v, %v", asked, r, err)
		}
	}
	if _, err := c.Put(t.Context(), "key", "kept"); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "key"); err == nil {
		t.Error("it answers while frozen")
	}
	s.Thaw()
	address := s.Addr()
	s.Kill()
	if err := s.Restart(); err != nil || s.Addr() != address {
		t.Fatal(s.Addr(), err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Get(ctx, "key")
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "kept" {
		t.Error("after a restart:", r, err)
	}
	s.Stop()
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Error("its folder is left")
	}
}
