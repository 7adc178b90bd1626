package lab

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports come from below the range that systems hand out to outgoing connections. A port from that range is easily taken
// between our look and the server's bind, or while a spec has its server down and wants it back at the same address.
const (
	firstPort = 11000
	lastPort  = 32000
)

// handedOut are the ports given to somebody in this process; other processes are seen by the attempt to listen. A port is
// never handed out twice: there are more than any test run needs.
var handedOut struct {
	sync.Mutex
	ports map[int]bool
}

// freePort picks a port on which nobody listens. Somebody else may still be faster: whoever starts a server on it must be
// ready to try another.
func freePort() (int, error) {
	handedOut.Lock()
	defer handedOut.Unlock()
	if handedOut.ports == nil {
		handedOut.ports = make(map[int]bool)
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if handedOut.ports[port] {
			continue
		}
		ln, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		_ = ln.Close()
		handedOut.ports[port] = true
		return port, nil
	}
	return 0, errors.New("lab: no free port on 127.0.0.1")
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
