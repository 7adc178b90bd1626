package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// howToGetServer is what somebody reads who has none. It may be the first thing they ever see of this project.
const howToGetServer = `ctxlock-demo: there is no Valkey or Redis server on this machine. Any of these will do:
  make server                     installs one, or says why it cannot
  Debian, Ubuntu                  apt-get install valkey-server   (or redis-server)
  Fedora, RHEL                    dnf install valkey              (or redis)
  Alpine                          apk add valkey                  (or redis)
  macOS                           brew install valkey             (or redis)
  docker compose up -d valkey     then: go run ./cmd/ctxlock-demo -server 127.0.0.1:6390
or set ` + lab.ServerEnv + ` to the path of a server binary, or give -server the address of
a server that runs.`

// server is where the lock lives: one that was started for the demo, or one that was there.
type server struct {
	address string // for the proxies
	name    string // as -server has it
	title   string // for people
	client  valkey.Client
	own     *lab.Server // nil if it was there
}

// openServer starts a server, or finds the one that is wanted.
func openServer(wanted string) (*server, error) {
	s := &server{name: wanted}
	if wanted == "" {
		own, err := lab.Start(lab.Config{})
		if err != nil {
			return nil, err
		}
		s.own, s.name = own, own.Addr()
		s.title = fmt.Sprintf("%s, started for this at %s", own.Binary, own.Addr())
	} else {
		s.title = "the server at " + wanted
	}
	if err := s.connect(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *server) connect() error {
	option, err := clientOption(s.name)
	if err != nil {
		return err
	}
	s.address = option.InitAddress[0]
	option.DisableCache = true
	if s.client, err = valkey.NewClient(option); err != nil {
		return fmt.Errorf("%s: %w", s.address, err)
	}
	if s.client.Mode() != valkey.ClientModeStandalone {
		return fmt.Errorf("%s is part of a cluster; the demo stalls the link to one server and needs one that stands alone", s.address)
	}
	if s.own == nil {
		s.title = "the server at " + s.address // without its password
	}
	return nil
}

// clientOption reads what -server says: host:port, or a URL.
func clientOption(text string) (valkey.ClientOption, error) {
	if !strings.Contains(text, "://") {
		if _, _, err := net.SplitHostPort(text); err != nil {
			return valkey.ClientOption{}, fmt.Errorf("-server wants host:port or redis://user:password@host:port: %w", err)
		}
		return valkey.ClientOption{InitAddress: []string{text}}, nil
	}
	option, err := valkey.ParseURL(text)
	if err == nil && (strings.HasPrefix(text, "unix:") || len(option.InitAddress) != 1 || option.Sentinel.MasterSet != "") {
		err = errors.New("-server wants a single server with a host and a port")
	}
	return option, err
}

// left lists what is on the server under a prefix. Processes that have closed their lockers have left nothing, so it waits
// only a moment for what is there to go.
func (s *server) left(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for last := time.Now().Add(500 * time.Millisecond); ; time.Sleep(50 * time.Millisecond) {
		keys, err := s.scan(ctx, prefix)
		if err != nil || len(keys) == 0 || time.Now().After(last) {
			return keys, err
		}
	}
}

func (s *server) scan(ctx context.Context, prefix string) (keys []string, err error) {
	for cursor := uint64(0); ; {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match(prefix+"*").Count(1000).Build()).AsScanEntry()
		if err != nil {
			return nil, err
		}
		keys = append(keys, page.Elements...)
		if cursor = page.Cursor; cursor == 0 {
			return keys, nil
		}
	}
}

func (s *server) close() {
	if s.client != nil {
		s.client.Close()
	}
	if s.own != nil {
		s.own.Stop()
	}
}
