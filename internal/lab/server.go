package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says how a server is to be run. The zero value is a plain server: no password, no TLS, no persistence.
type Config struct {
	// Binary is the server to run. Default: what Find finds.
	Binary Binary
	// Args are settings for the command line, as in "--maxmemory", "1mb". They override everything else here.
	Args []string
	// Password of the default user. Default: none.
	Password string
	// TLS makes the server speak TLS only; client certificates are looked at but not demanded ("--tls-auth-clients", "yes" in
	// Args demands them). Default: plain TCP.
	TLS *Certs
	// Clock gives the server a wall clock of its own for SetClock to move. Linux only; needs a C compiler once. Default: the
	// machine's clock.
	Clock bool
	// ClockSkew is the first offset of that clock; one that is not zero implies Clock. Default: 0.
	ClockSkew time.Duration
}

// startTimeout is far above what a start takes, some 50 ms; it is there for machines that are busy with other tests.
const startTimeout = 20 * time.Second

// Server is a server process on loopback. Its methods are safe for concurrent use. Stop ends it.
type Server struct {
	Binary Binary

	cfg  Config
	role role
	dir  string // of its own; removed by Stop

	attached string // the address of a server that is not ours; there is no process then

	port   int
	bus    int     // of the cluster, else 0
	clock  *clock  // nil unless Config asked for one
	client *client // behind Do

	mu      sync.Mutex
	proc    *process // the present or last run
	frozen  bool
	stopped bool // by Stop: nothing runs any more, dir and clock are gone
}

// role is what a cluster or a sentinel wants of its servers beyond Config.
type role struct {
	cluster  bool
	sentinel bool
	settings []string // lines for the configuration file
}

// Start runs a server and returns once it answers.
func Start(cfg Config) (*Server, error) { return start(cfg, role{}) }

// errPortTaken tells start to try another port.
var errPortTaken = errors.New("lab: the port was taken meanwhile")

func start(cfg Config, r role) (*Server, error) {
	if cfg.Binary == (Binary{}) {
		var err error
		if cfg.Binary, err = Find(); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "ctxlock-lab-")
	if err != nil {
		return nil, err
	}
	s := &Server{Binary: cfg.Binary, cfg: cfg, role: r, dir: dir}
	if cfg.Clock || cfg.ClockSkew != 0 {
		if s.clock, err = newClock(dir); err != nil {
			_ = os.RemoveAll(dir)
			return nil, err
		}
		s.clock.set(cfg.ClockSkew)
	}
	for range 5 {
		if err = s.settle(); err == nil {
			err = s.run()
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Attach gives a server that somebody else runs, at an address, such as one in a container. It is emptied first. Do, Info,
// Commands and Calls work on it, and Stop leaves it alone; what controls a process panics.
func Attach(addr string) (*Server, error) {
	s := &Server{attached: addr, client: &client{addr: addr, timeout: 5 * time.Second}}
	if _, err := s.Do("FLUSHALL"); err != nil {
		return nil, err
	}
	return s, nil
}

// settle gives the server its ports and writes its configuration.
func (s *Server) settle() (err error) {
	if s.port, err = freePort(); err != nil {
		return err
	}
	if s.role.cluster {
		if s.bus, err = freePort(); err != nil {
			return err
		}
	}
	s.client = &client{addr: s.Addr(), password: s.cfg.Password, timeout: 5 * time.Second}
	if s.cfg.TLS != nil {
		s.client.tls = s.cfg.TLS.Client()
	}
	return os.WriteFile(s.configFile(), []byte(strings.Join(s.settings(), "\n")+"\n"), 0o600)
}

func (s *Server) configFile() string { return filepath.Join(s.dir, "server.conf") }
func (s *Server) logFile() string    { return filepath.Join(s.dir, "server.log") }

// settings are the lines of the configuration file. A file and not arguments, because Config.Args shall win over them,
// because a sentinel rewrites its own, and because its path is how awaitReady knows the server for ours.
func (s *Server) settings() []string {
	lines := []string{"bind 127.0.0.1", "dir " + strconv.Quote(s.dir)}
	if t := s.cfg.TLS; t != nil {
		lines = append(lines, "port 0", fmt.Sprint("tls-port ", s.port),
			"tls-ca-cert-file "+t.CAFile, "tls-cert-file "+t.ServerCertFile, "tls-key-file "+t.ServerKeyFile,
			"tls-auth-clients optional", "tls-replication yes")
	} else {
		lines = append(lines, fmt.Sprint("port ", s.port))
	}
	if p := s.cfg.Password; p != "" {
		lines = append(lines, "requirepass "+p)
	}
	if s.role.sentinel {
		return append(lines, s.role.settings...)
	}
	lines = append(lines, `save ""`, "appendonly no",
		"repl-diskless-sync-delay 0") // else a first replica waits 5 s for a second one
	if p := s.cfg.Password; p != "" {
		lines = append(lines, "masterauth "+p)
	}
	if s.Binary.atLeast(7) { // earlier ones allow it anyway
		lines = append(lines, "enable-debug-command local")
	}
	if s.role.cluster {
		lines = append(lines, "cluster-enabled yes", "cluster-config-file nodes.conf", fmt.Sprint("cluster-port ", s.bus),
			"cluster-announce-ip 127.0.0.1")
		if s.cfg.TLS != nil {
			lines = append(lines, "tls-cluster yes")
		}
	}
	return append(lines, s.role.settings...)
}

// run starts the process and waits until it answers. When that fails, no process is left. It needs s.mu, or nobody else who
// knows s.
func (s *Server) run() error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own copy
	args := []string{s.configFile()}
	if s.role.sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(s.Binary.Path, append(args, s.cfg.Args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	if s.clock != nil {
		env, err := s.clock.env()
		if err != nil {
			return err
		}
		cmd.Env = append(os.Environ(), env...)
	}
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	s.proc, s.frozen = proc, false
	if err := s.awaitReady(); err != nil {
		s.proc.kill()
		return err
	}
	return nil
}

// awaitReady waits until the server on our port answers and is ours: where two processes picked one port, the other's server
// answers while ours is about to end.
func (s *Server) awaitReady() error {
	return poll(startTimeout, "the start of "+s.Binary.String(), func() error {
		info, err := s.Info("server")
		switch {
		case err == nil && info["config_file"] == s.configFile():
			return nil
		case s.proc.ended() && strings.Contains(s.Log(), "Address already in use"):
			return final{errPortTaken}
		case s.proc.ended():
			return final{fmt.Errorf("lab: %s ended at its start: %s", s.Binary, s.Log())}
		case err == nil:
			return fmt.Errorf("another server answers on port %d", s.port)
		}
		return err
	})
}

// Addr is where the server listens, "127.0.0.1:port".
func (s *Server) Addr() string {
	if s.attached != "" {
		return s.attached
	}
	return loopback(s.port)
}

// Do sends one command and returns the reply: string, int64, nil or []any; an error reply is the error, as a [ReplyError].
// It uses a connection of its own and gives up after five seconds, as on a server that is frozen.
func (s *Server) Do(args ...string) (any, error) { return s.client.do(args...) }

// Info asks the server for a section of INFO, "" for the default ones, as a map from field to value.
func (s *Server) Info(section string) (map[string]string, error) {
	args := []string{"INFO"}
	if section != "" {
		args = append(args, section)
	}
	reply, err := s.Do(args...)
	if err != nil {
		return nil, err
	}
	text, _ := reply.(string)
	return fields(text), nil
}

// fields reads the "name:value" lines of INFO and CLUSTER INFO.
func fields(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// Commands is the number of commands which the server has processed since it started, this question and those in scripts
// included; -1 when it does not answer.
func (s *Server) Commands() int64 {
	info, err := s.Info("stats")
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(info["total_commands_processed"], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Calls is how often the server has run one command, as in "evalsha" or "client|tracking"; -1 when it does not answer.
func (s *Server) Calls(command string) int64 {
	info, err := s.Info("commandstats")
	if err != nil {
		return -1
	}
	calls, _, _ := strings.Cut(strings.TrimPrefix(info["cmdstat_"+strings.ToLower(command)], "calls="), ",")
	n, _ := strconv.ParseInt(calls, 10, 64) // no line: never called
	return n
}

// Log is the end of what the server has logged, for the report of a test that failed.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.logFile())
	return string(b[max(0, len(b)-4096):])
}

// clockCache is longer than any server goes on with a time that it has read: Valkey 9.1 asks for the wall clock once in a
// millisecond and counts on from there by the processor's clock.
const clockCache = 5 * time.Millisecond

// SetClock moves the server's wall clock to d ahead of the machine's, or behind it. The clock jumps while the server runs,
// and the server lives by it when SetClock returns; Restart keeps it. It panics when Config did not ask for a Clock.
func (s *Server) SetClock(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock == nil {
		panic("lab: SetClock on a server without Config.Clock")
	}
	if !s.stopped {
		s.clock.set(d)
		time.Sleep(clockCache)
	}
}

// Freeze stops the process where it stands; connections stay open and accept bytes. When it returns, nothing moves any more.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen && !s.proc.ended() {
		s.frozen = true
		s.proc.signal(syscall.SIGSTOP)
		awaitFrozen(s.proc.cmd.Process.Pid)
	}
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		s.frozen = false
		s.proc.signal(syscall.SIGCONT)
	}
}

// Kill ends the process at once, as a crash would. Restart brings it back.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.proc.kill()
		s.frozen = false
	}
}

// Restart ends the process at once, unless it has ended, and runs it again at the same address: its data is gone, its
// place in a cluster is not.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("lab: the server was stopped")
	}
	s.proc.kill()
	s.client.close()
	if err := os.Truncate(s.logFile(), 0); err != nil { // what awaitReady reads there must be of the new run
		return err
	}
	return s.run()
}

// Stop ends the process, by force if need be, and removes its files. Further calls do nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if s.proc != nil {
		s.proc.stop()
	}
	if s.client != nil {
		s.client.close()
	}
	if s.clock != nil {
		s.clock.close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// answers reports whether there is any use in asking the server something.
func (s *Server) answers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stopped && (s.attached != "" || !s.frozen && !s.proc.ended())
}
