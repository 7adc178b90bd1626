package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certs are certificates for one test: a CA, a server certificate for 127.0.0.1 and localhost, and a client certificate.
// Remove deletes the files.
type Certs struct {
	Dir                           string
	CAFile                        string
	ServerCertFile, ServerKeyFile string
	ClientCertFile, ClientKeyFile string

	roots  *x509.CertPool
	client tls.Certificate
}

// NewCerts makes new certificates in a temporary folder.
func NewCerts() (*Certs, error) {
	dir, err := os.MkdirTemp("", "ctxlock-certs-")
	if err != nil {
		return nil, err
	}
	c := &Certs{
		Dir:            dir,
		CAFile:         filepath.Join(dir, "ca.pem"),
		ServerCertFile: filepath.Join(dir, "server.pem"), ServerKeyFile: filepath.Join(dir, "server.key"),
		ClientCertFile: filepath.Join(dir, "client.pem"), ClientKeyFile: filepath.Join(dir, "client.key"),
		roots: x509.NewCertPool(),
	}
	if err := c.issue(); err != nil {
		c.Remove()
		return nil, err
	}
	return c, nil
}

// Client is the configuration of a client that shows its certificate.
func (c *Certs) Client() *tls.Config {
	t := c.ClientWithoutCert()
	t.Certificates = []tls.Certificate{c.client}
	return t
}

// ClientWithoutCert is the configuration of a client that trusts the CA and has no certificate of its own.
func (c *Certs) ClientWithoutCert() *tls.Config {
	return &tls.Config{RootCAs: c.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// Remove deletes the files. Servers that run have read theirs; those that start later could not.
func (c *Certs) Remove() { _ = os.RemoveAll(c.Dir) }

func (c *Certs) issue() error {
	ca, caKey := template("ctxlock lab CA"), newKey()
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := write(ca, ca, caKey, caKey, c.CAFile, ""); err != nil {
		return err
	}
	pemCA, err := os.ReadFile(c.CAFile)
	if err != nil {
		return err
	}
	if !c.roots.AppendCertsFromPEM(pemCA) {
		return errors.New("lab: the CA's own certificate cannot be read back")
	}
	// A server is a client too, of its primary and of the other nodes of its cluster.
	server := template("localhost")
	server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if err := write(server, ca, newKey(), caKey, c.ServerCertFile, c.ServerKeyFile); err != nil {
		return err
	}
	client := template("ctxlock")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if err := write(client, ca, newKey(), caKey, c.ClientCertFile, c.ClientKeyFile); err != nil {
		return err
	}
	c.client, err = tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile)
	return err
}

// template is valid for a month around now, because specs shift the clocks of servers.
func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // rand.Reader does not fail
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().AddDate(0, -1, 0),
		NotAfter:     time.Now().AddDate(0, 1, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // P256 and rand.Reader give no reason for one
	}
	return k
}

// write signs cert and stores it, and its key unless keyFile is empty.
func write(cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey, certFile, keyFile string) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil || keyFile == "" {
		return err
	}
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return err
	}
	return writePEM(keyFile, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
