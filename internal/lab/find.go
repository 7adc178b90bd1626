package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// ServerEnv names the environment variable that picks the server binary, before anything on PATH.
const ServerEnv = "CTXLOCK_SERVER"

// ErrNoServer is what [Find] answers on a machine that has no server.
var ErrNoServer = errors.New("lab: no valkey-server or redis-server found: `make servers` fetches several, `make server` " +
	"installs the system's, docker-compose.yml runs them in containers; or set " + ServerEnv + " to the path of a binary")

// Binary is a server program.
type Binary struct {
	Path    string
	Name    string // "valkey" or "redis"
	Version [3]int
}

func (b Binary) String() string {
	return fmt.Sprintf("%s %d.%d.%d", b.Name, b.Version[0], b.Version[1], b.Version[2])
}

// AtLeast reports whether b is a server of that name, in that version or a later one: b.AtLeast("valkey", 8, 1).
func (b Binary) AtLeast(name string, version ...int) bool {
	return b.Name == name && b.atLeast(version...)
}

func (b Binary) atLeast(version ...int) bool {
	for i, v := range version {
		if i == len(b.Version) {
			break
		}
		if b.Version[i] != v {
			return b.Version[i] > v
		}
	}
	return true
}

// Find returns the server to use: the one that CTXLOCK_SERVER names, else valkey-server, else redis-server on PATH, else
// [ErrNoServer]. A CTXLOCK_SERVER that does not work is an error and not passed over: specs would otherwise test another
// server than the one they were told to.
func Find() (Binary, error) {
	if path := os.Getenv(ServerEnv); path != "" {
		return identify(path)
	}
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return identify(path)
		}
	}
	return Binary{}, ErrNoServer
}

// identified remembers what each path turned out to be: asking costs a process, and specs start servers by the hundred.
var identified sync.Map // path -> Binary

var versionLine = regexp.MustCompile(`(?i)^(valkey|redis) server v=(\d+)\.(\d+)\.(\d+)`)

func identify(path string) (Binary, error) {
	if b, ok := identified.Load(path); ok {
		return b.(Binary), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("lab: %s --version: %w: %s", path, err, out)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Binary{}, fmt.Errorf("lab: %s is neither a Valkey nor a Redis server: %s", path, out)
	}
	b := Binary{Path: path, Name: "redis"}
	if m[1][0] == 'V' || m[1][0] == 'v' {
		b.Name = "valkey"
	}
	for i := range b.Version {
		b.Version[i], _ = strconv.Atoi(string(m[2+i]))
	}
	identified.Store(path, b)
	return b, nil
}
