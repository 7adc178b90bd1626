package lab

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func startServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect sends a command and compares the reply.
func expect(t *testing.T, do func(...string) (any, error), want any, args ...string) {
	t.Helper()
	got, err := do(args...)
	if err != nil || got != want {
		t.Fatalf("%v: got %v, %v; want %v", args, got, err, want)
	}
}

func TestBinaryComparesVersions(t *testing.T) {
	b := Binary{Name: "valkey", Version: [3]int{8, 1, 3}}
	for _, c := range []struct {
		name    string
		version []int
		want    bool
	}{
		{"valkey", nil, true}, {"valkey", []int{8}, true}, {"valkey", []int{8, 1}, true}, {"valkey", []int{8, 1, 3}, true},
		{"valkey", []int{8, 1, 4}, false}, {"valkey", []int{8, 2}, false}, {"valkey", []int{9, 0}, false},
		{"valkey", []int{7, 9, 9}, true}, {"redis", []int{7}, false},
	} {
		if got := b.AtLeast(c.name, c.version...); got != c.want {
			t.Errorf("%v at least %s %v: %v", b, c.name, c.version, got)
		}
	}
}

func TestFindRefusesWhatIsNoServer(t *testing.T) {
	t.Setenv(ServerEnv, "/bin/true")
	if b, err := Find(); err == nil {
		t.Errorf("found %v", b)
	}
	t.Setenv(ServerEnv, "")
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(); !errors.Is(err, ErrNoServer) {
		t.Error(err)
	}
}

func TestServerStartsAnswersAndStops(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{Args: []string{"--maxmemory", "5mb"}, Password: "secret"})
	t.Log(s.Binary)
	expect(t, s.Do, "OK", "SET", "k", "v")
	expect(t, s.Do, "v", "GET", "k")
	expect(t, s.Do, nil, "GET", "none")
	expect(t, s.Do, int64(1), "DEL", "k")
	if reply, err := s.Do("CONFIG", "GET", "maxmemory"); err != nil || fmt.Sprint(reply) != "[maxmemory 5242880]" {
		t.Error(reply, err)
	}
	var e ReplyError
	if _, err := s.Do("INCRBY", "k", "x"); !errors.As(err, &e) || !strings.HasPrefix(string(e), "ERR") {
		t.Error(err)
	}
	stranger := &client{addr: s.Addr(), timeout: time.Second}
	defer stranger.close()
	if _, err := stranger.do("PING"); !errors.As(err, &e) || !strings.HasPrefix(string(e), "NOAUTH") {
		t.Error("without the password:", err)
	}
	before := s.Commands()
	expect(t, s.Do, "PONG", "PING")
	if n := s.Commands() - before; n != 2 { // the PING and the question itself
		t.Error(n, "commands")
	}
	if s.Calls("set") != 1 || s.Calls("getdel") != 0 {
		t.Error(s.Calls("set"), s.Calls("getdel"))
	}
	s.Stop()
	s.Stop()
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Error("answers after Stop")
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestStartTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	_, err := Start(Config{Args: []string{"--no-such-setting", "1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Error(err)
	}
}

func TestServerComesBackEmptyAtTheSameAddress(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	addr := s.Addr()
	expect(t, s.Do, "OK", "SET", "k", "v")
	s.Kill()
	if _, err := s.Do("PING"); err == nil {
		t.Error("answers after Kill")
	}
	must(t, s.Restart())
	must(t, s.Restart()) // from running as well
	if s.Addr() != addr {
		t.Error(addr, s.Addr())
	}
	expect(t, s.Do, nil, "GET", "k")
}

func TestFrozenServerIsSilentAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, Config{})
	expect(t, s.Do, "PONG", "PING")
	s.Freeze()
	s.Freeze()
	reply := make(chan error, 1)
	go func() {
		_, err := s.Do("SET", "k", "v")
		reply <- err
	}()
	select {
	case err := <-reply:
		t.Fatal("answered while frozen:", err)
	case <-time.After(200 * time.Millisecond):
	}
	s.Thaw()
	s.Thaw()
	must(t, <-reply)
	expect(t, s.Do, "v", "GET", "k")
	s.Freeze()
	s.Stop() // must not hang
}

func TestClockJumpsWhileTheServerRuns(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux preloads")
	}
	t.Parallel()
	s := startServer(t, Config{ClockSkew: -24 * time.Hour})
	ahead := func() time.Duration {
		t.Helper()
		reply, err := s.Do("TIME")
		must(t, err)
		parts := reply.([]any)
		sec, _ := strconv.ParseInt(parts[0].(string), 10, 64)
		micro, _ := strconv.ParseInt(parts[1].(string), 10, 64)
		return time.Until(time.Unix(sec, micro*1000))
	}
	near := func(want time.Duration) {
		t.Helper()
		if got := ahead(); (got - want).Abs() > 5*time.Second {
			t.Errorf("the clock is %v ahead, want %v", got, want)
		}
	}
	near(-24 * time.Hour)
	s.SetClock(0)
	near(0)
	expect(t, s.Do, "OK", "SET", "k", "v", "PX", "60000")
	s.SetClock(-time.Hour)
	near(-time.Hour)
	if reply, err := s.Do("PTTL", "k"); err != nil || reply.(int64) < 3_600_000 {
		t.Error("with the clock set back an hour a key lives", reply, err)
	}
	s.SetClock(time.Hour)
	near(time.Hour)
	expect(t, s.Do, nil, "GET", "k")
	time.Sleep(1500 * time.Millisecond) // its timers run on: so does it
	expect(t, s.Do, "PONG", "PING")
	must(t, s.Restart())
	near(time.Hour)
	s.Stop()
	s.SetClock(0) // too late, and harmless
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certs, err := NewCerts()
	must(t, err)
	defer certs.Remove()
	s := startServer(t, Config{TLS: certs})
	expect(t, s.Do, "PONG", "PING")
	for name, c := range map[string]struct {
		config *tls.Config
		works  bool
	}{
		"with client certificate":    {certs.Client(), true},
		"without client certificate": {certs.ClientWithoutCert(), true},
		"without the CA":             {&tls.Config{ServerName: "localhost"}, false},
		"plain":                      {nil, false},
	} {
		cl := &client{addr: s.Addr(), tls: c.config, timeout: time.Second}
		if _, err := cl.do("PING"); (err == nil) != c.works {
			t.Errorf("%s: %v", name, err)
		}
		cl.close()
	}
	strict := startServer(t, Config{TLS: certs, Args: []string{"--tls-auth-clients", "yes"}})
	cl := &client{addr: strict.Addr(), tls: certs.ClientWithoutCert(), timeout: time.Second}
	defer cl.close()
	if _, err := cl.do("PING"); err == nil {
		t.Error("a client without certificate was let in")
	}
	expect(t, strict.Do, "PONG", "PING")
}

// The server must die with the process that started it, even if that one is killed.
func TestServerDiesWithItsProcess(t *testing.T) {
	if os.Getenv("LAB_CHILD") != "" {
		s, err := Start(Config{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Addr())
		select {}
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithItsProcess$")
	cmd.Env = append(os.Environ(), "LAB_CHILD=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 256)
	n, _ := out.Read(buf)
	addr := strings.TrimSpace(string(buf[:n]))
	cl := &client{addr: addr, timeout: time.Second}
	defer cl.close()
	reply, err := cl.do("CONFIG", "GET", "dir")
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(addr, err)
	}
	defer os.RemoveAll(reply.([]any)[1].(string)) // nobody was left to remove it
	must(t, poll(5*time.Second, "the server's death", func() error {
		if _, err := cl.do("PING"); err == nil {
			return errors.New("it answers")
		}
		return nil
	}))
}

func TestManyServersAtOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Start(Config{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Stop()
			if _, err := s.Do("SET", "addr", s.Addr()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c, err := StartCluster(3, 1, Config{Password: "secret"})
	must(t, err)
	defer c.Stop()
	if len(c.Addrs()) != 6 {
		t.Fatal(c.Addrs())
	}
	p, err := c.Primary("k")
	must(t, err)
	expect(t, p.Do, "OK", "SET", "k", "v")
	must(t, poll(5*time.Second, "replication", func() error {
		if n, err := p.Do("WAIT", "1", "1000"); n != int64(1) {
			return fmt.Errorf("%v %v", n, err)
		}
		return nil
	}))

	slot, err := c.Slot("k")
	must(t, err)
	to := c.Nodes[0]
	if to == p {
		to = c.Nodes[1]
	}
	must(t, c.MoveSlot(slot, to))
	if now, err := c.Primary("k"); now != to {
		t.Fatal("the slot has not moved", err)
	}
	expect(t, to.Do, "v", "GET", "k")
	var e ReplyError
	if _, err := p.Do("GET", "k"); !errors.As(err, &e) || !strings.HasPrefix(string(e), "MOVED") {
		t.Error(err)
	}

	old, err := c.KillPrimary("k")
	must(t, err)
	next, err := c.AwaitFailover("k", old)
	must(t, err)
	if old != to || next == old {
		t.Fatal(old.Addr(), next.Addr())
	}
	expect(t, next.Do, "OK", "SET", "k", "w")
	must(t, old.Restart()) // as a replica
	must(t, poll(10*time.Second, "the old primary", func() error {
		if now, err := c.Primary("k"); err != nil || now != next {
			return fmt.Errorf("the primary is %v, %v", now, err)
		}
		return old.linked()
	}))
}

func TestClusterWithTLS(t *testing.T) {
	t.Parallel()
	certs, err := NewCerts()
	must(t, err)
	defer certs.Remove()
	c, err := StartCluster(1, 1, Config{TLS: certs})
	must(t, err)
	defer c.Stop()
	p, err := c.Primary("k")
	must(t, err)
	expect(t, p.Do, "OK", "SET", "k", "v")
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s, err := StartSentinel(Config{Password: "secret", Args: []string{"--maxmemory", "5mb"}})
	must(t, err)
	defer s.Stop()
	if len(s.Addrs()) != 3 {
		t.Fatal(s.Addrs())
	}
	old, err := s.KillPrimary()
	must(t, err)
	next, err := s.AwaitFailover(old)
	must(t, err)
	if old != s.Data[0] || next != s.Data[1] {
		t.Fatal(old.Addr(), next.Addr())
	}
	expect(t, next.Do, "OK", "SET", "k", "v")
}

// via starts a server behind a proxy, and a client in front of it.
func via(t *testing.T) (*Server, *Proxy, *client) {
	t.Helper()
	s := startServer(t, Config{})
	p, err := NewProxy(s.Addr())
	must(t, err)
	t.Cleanup(p.Close)
	c := &client{addr: p.Addr(), timeout: 10 * time.Second}
	t.Cleanup(c.close)
	return s, p, c
}

func TestProxyStallKeepsEverything(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{Up, Down, Both} {
		s, p, c := via(t)
		expect(t, c.do, "PONG", "PING")
		p.Stall(d)
		reply := make(chan error, 2)
		for i, cl := range []*client{c, {addr: p.Addr(), timeout: 10 * time.Second}} { // a connection of before, a new one
			defer cl.close()
			go func() {
				_, err := cl.do("SET", fmt.Sprint("k", i), "v")
				reply <- err
			}()
		}
		select {
		case err := <-reply:
			t.Fatal(d, "answered in a stall:", err)
		case <-time.After(200 * time.Millisecond):
		}
		n, err := s.Do("EXISTS", "k0", "k1")
		must(t, err)
		if executed := n == int64(2); executed != (d == Down) {
			t.Error(d, "stalled:", n, "commands arrived")
		}
		p.Heal()
		must(t, <-reply)
		must(t, <-reply)
		expect(t, s.Do, int64(2), "EXISTS", "k0", "k1")
		if p.Accepted() != 2 || p.Open() != 2 {
			t.Error(p.Accepted(), p.Open())
		}
	}
}

// More bytes than any buffer holds, in both directions, with stalls at random moments.
func TestProxyLosesNothingUnderLoad(t *testing.T) {
	t.Parallel()
	const n, size = 200, 64 << 10
	_, p, _ := via(t)
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			if _, err := conn.Write(appendCommand(nil, []string{"ECHO", string(bytes.Repeat([]byte{byte('a' + i%26)}, size))})); err != nil {
				t.Error(err)
				return
			}
		}
	})
	stop := make(chan struct{})
	wg.Go(func() {
		for d := Up; ; d = d%Both + 1 {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			p.Stall(d)
			time.Sleep(5 * time.Millisecond)
			p.Heal()
		}
	})
	header := []byte(fmt.Sprintf("$%d\r\n", size))
	want := make([]byte, 0, len(header)+size+2)
	got := make([]byte, cap(want))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for i := range n {
		want = append(append(append(want[:0], header...), bytes.Repeat([]byte{byte('a' + i%26)}, size)...), "\r\n"...)
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
			t.Error("reply", i, "is not what was sent", err)
			break
		}
	}
	close(stop)
	conn.Close()
	wg.Wait()
}

func TestProxyDelayIsALine(t *testing.T) {
	t.Parallel()
	_, p, c := via(t)
	expect(t, c.do, "PONG", "PING")
	const d = 100 * time.Millisecond
	p.Delay(d)
	start := time.Now()
	expect(t, c.do, "PONG", "PING")
	if took := time.Since(start); took < 2*d || took > 2*d+150*time.Millisecond {
		t.Error("one round trip took", took)
	}
	// Requests that do not wait for each other take no longer together.
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	start = time.Now()
	for range 20 {
		_, err := conn.Write(appendCommand(nil, []string{"PING"}))
		must(t, err)
		time.Sleep(2 * time.Millisecond) // a read of the proxy for each
	}
	_, err = io.ReadFull(conn, make([]byte, 20*len("+PONG\r\n")))
	must(t, err)
	if took := time.Since(start); took < 2*d || took > 3*d+150*time.Millisecond {
		t.Error("twenty pipelined round trips took", took)
	}
	p.Delay(0)
	start = time.Now()
	expect(t, c.do, "PONG", "PING")
	if took := time.Since(start); took > d {
		t.Error("without delay a round trip took", took)
	}
}

func TestProxyCutAndRefuse(t *testing.T) {
	t.Parallel()
	s, p, c := via(t)
	expect(t, c.do, "PONG", "PING")
	p.Cut()
	if _, err := c.do("PING"); err == nil {
		t.Error("answered over a connection that was cut")
	}
	expect(t, c.do, "PONG", "PING")
	p.Refuse(true)
	expect(t, c.do, "PONG", "PING") // this connection exists
	p.Cut()
	for range 2 {
		if _, err := c.do("PING"); err == nil {
			t.Error("a new connection was not refused")
		}
	}
	p.Refuse(false)
	expect(t, c.do, "PONG", "PING")
	if p.Accepted() != 3 {
		t.Error(p.Accepted(), "connections")
	}
	s.Kill()
	if _, err := c.do("PING"); err == nil {
		t.Error("answered by a dead server")
	}
	must(t, poll(time.Second, "the links to end", func() error {
		if n := p.Open(); n != 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	}))
}

// once is a hook that acts on the first command of a name.
func once(name string, a Action) func([]string) Action {
	done := false
	return func(args []string) Action {
		if done || !strings.EqualFold(args[0], name) {
			return Pass
		}
		done = true
		return a
	}
}

func TestProxyCutBefore(t *testing.T) {
	t.Parallel()
	s, p, c := via(t)
	p.OnCommand(once("INCR", CutBefore))
	if _, err := c.do("INCR", "k"); err == nil {
		t.Error("no error")
	}
	expect(t, s.Do, nil, "GET", "k")
	expect(t, c.do, int64(1), "INCR", "k")
}

func TestProxyCutAfterHasExecuted(t *testing.T) {
	t.Parallel()
	s, p, c := via(t)
	p.OnCommand(once("INCR", CutAfter))
	if _, err := c.do("INCR", "k"); err == nil {
		t.Error("no error")
	}
	expect(t, s.Do, "1", "GET", "k")
	expect(t, c.do, int64(2), "INCR", "k")

	// In a pipeline: the replies before it arrive, its own does not, and what follows is not executed.
	p.OnCommand(once("INCR", CutAfter))
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	var b []byte
	for _, args := range [][]string{{"HELLO", "3"}, {"ECHO", "a"}, {"INCR", "k"}, {"SET", "after", "1"}} {
		b = appendCommand(b, args)
	}
	_, err = conn.Write(b)
	must(t, err)
	got, _ := io.ReadAll(conn) // ends in a reset
	if !bytes.HasSuffix(got, []byte("$1\r\na\r\n")) {
		t.Errorf("got %q", got)
	}
	expect(t, s.Do, "3", "GET", "k")
	expect(t, s.Do, nil, "GET", "after")
}

// The server ends before the reply that was to be cut off comes: the client must hear of that, and the link end.
func TestProxyCutAfterWithoutAReply(t *testing.T) {
	t.Parallel()
	s, p, c := via(t)
	expect(t, c.do, "PONG", "PING")
	p.OnCommand(once("INCR", CutAfter))
	s.Freeze()
	failed := make(chan error, 1)
	go func() {
		_, err := c.do("INCR", "k")
		failed <- err
	}()
	time.Sleep(50 * time.Millisecond) // it has been sent
	s.Kill()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("it was answered")
		}
	case <-time.After(2 * time.Second):
		t.Error("the client hears nothing")
	}
	must(t, poll(2*time.Second, "the end of the link", func() error {
		if n := p.Open(); n > 0 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	}))
}

// Invalidations come between replies; they must not be taken for one.
func TestProxyTellsPushesFromReplies(t *testing.T) {
	t.Parallel()
	s, p, _ := via(t)
	conn, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	send := func(args ...string) {
		_, err := conn.Write(appendCommand(nil, args))
		must(t, err)
	}
	awaited := func(end string) {
		t.Helper()
		var got []byte
		for buf := make([]byte, 1); !bytes.HasSuffix(got, []byte(end)); {
			if _, err := conn.Read(buf); err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			got = append(got, buf...)
		}
	}
	send("HELLO", "3")
	send("CLIENT", "TRACKING", "ON")
	send("GET", "k")
	awaited("+OK\r\n_\r\n")
	send("SUBSCRIBE", "c")
	awaited(":1\r\n")
	must(t, s.tell("SET", "k", "v"))
	awaited("$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n")
	must(t, s.tell("PUBLISH", "c", "hello"))
	awaited("hello\r\n")
	p.OnCommand(once("INCR", CutAfter))
	send("ECHO", "a")
	send("INCR", "n")
	awaited("$1\r\na\r\n")
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the reply was delivered", n)
	}
	expect(t, s.Do, "1", "GET", "n")
}

func TestProxyStallAfterHoldsTheReply(t *testing.T) {
	t.Parallel()
	s, p, c := via(t)
	p.OnCommand(once("INCR", StallAfter))
	expect(t, c.do, "PONG", "PING")
	reply := make(chan any, 1)
	go func() {
		n, err := c.do("INCR", "k")
		reply <- fmt.Sprint(n, err)
	}()
	must(t, poll(5*time.Second, "the command", func() error {
		if v, _ := s.Do("GET", "k"); v != "1" {
			return fmt.Errorf("the value is %v", v)
		}
		return nil
	}))
	select {
	case r := <-reply:
		t.Fatal(r)
	case <-time.After(100 * time.Millisecond):
	}
	p.Heal()
	if r := <-reply; r != fmt.Sprint(int64(1), nil) {
		t.Error(r)
	}
	expect(t, c.do, "PONG", "PING")
}

func TestProxyHookSeesEveryCommandWhole(t *testing.T) {
	t.Parallel()
	_, p, c := via(t)
	var seen []string
	p.OnCommand(func(args []string) Action {
		seen = append(seen, fmt.Sprint(args[0], len(args[len(args)-1])))
		return Pass
	})
	expect(t, c.do, "OK", "SET", "k", strings.Repeat("x", 300_000))
	expect(t, c.do, int64(300_000), "STRLEN", "k")
	p.OnCommand(nil)
	expect(t, c.do, "PONG", "PING")
	p.Close() // orders the hook's writes before our read
	if got := fmt.Sprint(seen); got != "[SET300000 STRLEN1]" {
		t.Error(got)
	}
}

func TestProxyPassesWhatIsNotRESP(t *testing.T) {
	t.Parallel()
	certs, err := NewCerts()
	must(t, err)
	defer certs.Remove()
	s := startServer(t, Config{TLS: certs})
	p, err := NewProxy(s.Addr())
	must(t, err)
	defer p.Close()
	p.OnCommand(func([]string) Action { return CutBefore })
	c := &client{addr: p.Addr(), tls: certs.Client(), timeout: time.Second}
	defer c.close()
	expect(t, c.do, "OK", "SET", "k", strings.Repeat("x", 100_000))
}

// Not parallel: it counts all goroutines.
func TestProxyAndServerLeaveNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := Start(Config{})
	must(t, err)
	p, err := NewProxy(s.Addr())
	must(t, err)
	for range 10 {
		c := &client{addr: p.Addr(), timeout: time.Second}
		expect(t, c.do, "PONG", "PING")
		defer c.close()
	}
	p.Stall(Both)
	c := &client{addr: p.Addr(), timeout: 50 * time.Millisecond}
	if _, err := c.do("PING"); err == nil {
		t.Error("answered in a stall")
	}
	p.Close()
	p.Close()
	s.Stop()
	noMoreGoroutines(t, before)
}

// noMoreGoroutines waits until there are no more than there were.
func noMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	must(t, poll(5*time.Second, "goroutines to end", func() error {
		if n := runtime.NumGoroutine(); n > before {
			buf := make([]byte, 1<<16)
			return fmt.Errorf("%d more than before:\n%s", n-before, buf[:runtime.Stack(buf, true)])
		}
		return nil
	}))
}

func TestScannerFindsEndsInAnyPieces(t *testing.T) {
	values := []string{
		"+OK\r\n", "-ERR no\r\n", ":12\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n", "$0\r\n\r\n", "$-1\r\n", "$4\r\na\r\nb\r\n",
		"*0\r\n", "*-1\r\n", "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", "%1\r\n+k\r\n*1\r\n:1\r\n", "~2\r\n:1\r\n:2\r\n", "=5\r\ntxt:a\r\n",
		"!3\r\nERR\r\n", "|1\r\n+ttl\r\n:3\r\n+value\r\n", ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
	}
	stream := []byte(strings.Join(values, ""))
	for size := 1; size <= len(stream); size++ {
		var (
			s    scanner
			got  []string
			part []byte
		)
		for at := 0; at < len(stream); at += size {
			for b := stream[at:min(at+size, len(stream))]; len(b) > 0; {
				n, whole := s.next(b)
				part = append(part, b[:n]...)
				b = b[n:]
				if whole {
					if s.push != (part[0] == '>') {
						t.Errorf("%q: push is %v", part, s.push)
					}
					got = append(got, string(part))
					part = nil
				}
			}
		}
		if strings.Join(got, "|") != strings.Join(values, "|") {
			t.Fatalf("in pieces of %d: %q", size, got)
		}
	}
	var s scanner
	if n, whole := s.next([]byte("what\r\n")); n != 6 || whole || s.fresh() {
		t.Error(n, whole)
	}
	if n, _ := s.next(make([]byte, math.MaxUint8)); n != math.MaxUint8 {
		t.Error(n)
	}
}
