package lab

import (
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// clock is the wall clock of one server: an offset in a file which the server has mapped as well.
type clock struct {
	file string
	page []byte
	at   *atomic.Int64 // in page; 64 bits written at once, so that the server never sees half of a jump
}

func newClock(dir string) (*clock, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("lab: shifting a server's clock needs Linux")
	}
	file := filepath.Join(dir, "clock")
	if err := os.WriteFile(file, make([]byte, 8), 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("lab: clock: %w", err)
	}
	return &clock{file: file, page: page, at: (*atomic.Int64)(unsafe.Pointer(&page[0]))}, nil
}

func (c *clock) set(d time.Duration) { c.at.Store(int64(d)) }

// env is what makes a process live by this clock.
func (c *clock) env() ([]string, error) {
	shim, err := clockshift()
	if err != nil {
		return nil, err
	}
	return []string{"LD_PRELOAD=" + shim, "CLOCKSHIFT_FILE=" + c.file}, nil
}

// close must be the last use of c.
func (c *clock) close() { _ = syscall.Munmap(c.page) }

// The source has a name that the go tool does not take for a C file: the library needs no cgo, and this package neither.
//
//go:embed clockshift/clockshift.c.txt
var clockshiftSource []byte

// clockshift compiles the shim unless this user has done so before and returns its path. It stays in the user's cache folder,
// named by its content: there is no moment at which a test process could safely remove it.
var clockshift = sync.OnceValues(func() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "ctxlock")
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil { // no home, or not ours to write to
		if dir, err = os.MkdirTemp("", "ctxlock-clockshift-"); err != nil {
			return "", err
		}
	}
	shim := filepath.Join(dir, fmt.Sprintf("clockshift-%.16x.so", sha256.Sum256(clockshiftSource)))
	if _, err := os.Stat(shim); err == nil {
		return shim, nil
	}
	return shim, compile(clockshiftSource, shim)
})

// compile makes a shared library. Test processes that compile it at once do not disturb each other: the last rename wins.
func compile(source []byte, to string) error {
	work, err := os.MkdirTemp(filepath.Dir(to), "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	in, out := filepath.Join(work, "shim.c"), filepath.Join(work, "shim.so")
	if err := os.WriteFile(in, source, 0o600); err != nil {
		return err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if msg, err := exec.Command(cc, "-shared", "-fPIC", "-O2", "-o", out, in).CombinedOutput(); err != nil {
		return fmt.Errorf("lab: shifting a server's clock needs a C compiler: %s: %w: %s", cc, err, msg)
	}
	return os.Rename(out, to)
}
