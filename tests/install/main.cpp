// main.cpp: a program that uses the installed library through its one header.
#include <iostream>
#include <mainspring.hpp>

int main() {
  std::cout << "mainspring " << ms::version() << '\n';
  return ms::version().empty();
}
