package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// Certificates outlive any use of a throw-away control plane.
const validFor = 7 * 24 * time.Hour

// writeCredentials makes keys, certificates, tokens and kubeconfigs. It returns the administrator's token.
func (p *plane) writeCredentials() (string, error) {
	authorityKey, err := p.newKey("ca.key")
	if err != nil {
		return "", err
	}
	authority := certificate("atoll-kube", 1)
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := p.sign("ca.crt", authority, authority, authorityKey, authorityKey); err != nil {
		return "", err
	}
	serverKey, err := p.newKey("server.key")
	if err != nil {
		return "", err
	}
	server := certificate("kube-apiserver", 2)
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	if err := p.sign("server.crt", server, authority, serverKey, authorityKey); err != nil {
		return "", err
	}
	if _, err := p.newKey("accounts.key"); err != nil {
		return "", err
	}
	return p.writeTokens()
}

func certificate(name string, serial int64) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validFor),
	}
}

func (p *plane) newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, p.writePEM(name, "EC PRIVATE KEY", der)
}

func (p *plane) sign(name string, subject, issuer *x509.Certificate, key, issuerKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, subject, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return err
	}
	return p.writePEM(name, "CERTIFICATE", der)
}

func (p *plane) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(p.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeTokens gives everyone a token and a kubeconfig.
func (p *plane) writeTokens() (string, error) {
	everyone := append(identityList{
		{file: "admin", user: "admin", groups: []string{"system:masters"}},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kwok", user: "kwok", groups: []string{"system:masters"}},
	}, p.set.identities...)
	var table strings.Builder
	var admin string
	for number, who := range everyone {
		secret := make([]byte, 24)
		if _, err := rand.Read(secret); err != nil {
			return "", err
		}
		token := hex.EncodeToString(secret)
		if number == 0 {
			admin = token
		}
		fmt.Fprintf(&table, "%s,%s,%d,%q\n", token, who.user, number, strings.Join(who.groups, ","))
		if err := p.writeKubeconfig(who.file, token); err != nil {
			return "", err
		}
	}
	return admin, os.WriteFile(p.file("tokens.csv"), []byte(table.String()), 0o600)
}

func (p *plane) writeKubeconfig(file, token string) error {
	authority, err := os.ReadFile(p.file("ca.crt"))
	if err != nil {
		return err
	}
	const name = "atoll-kube"
	config := object{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []object{{"name": name, "cluster": object{
			"server": p.server, "certificate-authority-data": base64.StdEncoding.EncodeToString(authority),
		}}},
		"users":    []object{{"name": name, "user": object{"token": token}}},
		"contexts": []object{{"name": name, "context": object{"cluster": name, "user": name}}},
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(p.file(file+".kubeconfig"), text, 0o600)
}
